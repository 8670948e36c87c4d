"""Tables, tests, figures and a report over finished runs; reads the ledger and needs neither torch nor Ray.

The names below are the public API (docs/api.md); each is imported when it is first used.
"""

import l2t_ray  # noqa: F401  of the same checkout; puts the working folder last among the places of modules

# isort: split
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.api import Comparison, compare
    from analysis.results.runs import read_results

__all__ = ["Comparison", "compare", "read_results"]
_HOMES = {"Comparison": "api", "compare": "api", "read_results": "results.runs"}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562), because pandas takes a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
