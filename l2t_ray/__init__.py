"""l2t-ray: trains thousands of small transfer-learning runs, records each one, and judges them with statistics.

The names below are the public API (docs/api.md). Each is imported when it is first used, so `import l2t_ray` is cheap.
"""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m l2t_ray...`: a random.py of the working folder must not be Python's
    sys.path.append(sys.path.pop(0))

    def _one_line(kind: type[BaseException], error: BaseException, trace: "TracebackType | None") -> None:
        """Tells Ctrl-C during the imports in one line; `errors.exit_code` does so afterwards."""
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr.write("interrupted; launch again to go on\n")
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = _one_line

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from l2t_ray.api import Sweep, read_sweep, results, train
    from l2t_ray.config import Run
    from l2t_ray.data.load import load_data
    from l2t_ray.errors import InputError
    from l2t_ray.ledger.ledger import Ledger
    from l2t_ray.methods.feature_matching import FeatureMatching
    from l2t_ray.methods.method import Batch, Method, Shapes, Stage
    from l2t_ray.models.backbone import Backbone
    from l2t_ray.models.traced import Traced
    from l2t_ray.models.weights import load_source
    from l2t_ray.registry import register
    from l2t_ray.trainer.context import Context

__version__ = "0.2.0"
__all__ = [
    "Backbone",
    "Batch",
    "Context",
    "FeatureMatching",
    "InputError",
    "Ledger",
    "Method",
    "Run",
    "Shapes",
    "Stage",
    "Sweep",
    "Traced",
    "load_data",
    "load_source",
    "read_sweep",
    "register",
    "results",
    "train",
]
_HOMES = {
    "Backbone": "models.backbone",
    "Batch": "methods.method",
    "Context": "trainer.context",
    "FeatureMatching": "methods.feature_matching",
    "InputError": "errors",
    "Ledger": "ledger.ledger",
    "Method": "methods.method",
    "Run": "config",
    "Shapes": "methods.method",
    "Stage": "methods.method",
    "Sweep": "api",
    "Traced": "models.traced",
    "load_data": "data.load",
    "load_source": "models.weights",
    "read_sweep": "api",
    "register": "registry",
    "results": "api",
    "train": "api",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted({*globals(), *__all__})
