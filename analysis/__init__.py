"""Tables, tests, figures and a report over finished runs; reads the ledger and needs neither torch nor Ray.

`read_results` is the public API (docs/api.md); it is imported when it is first used.
"""

import l2t_ray  # noqa: F401  of the same checkout; puts the working folder last among the places of modules

# isort: split
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.results.runs import read_results

__all__ = ["read_results"]


def __getattr__(name: str) -> Any:
    """Imports `read_results` when it is first used (PEP 562), because pandas takes a second."""
    if name != "read_results":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analysis.results.runs import read_results

    return read_results
