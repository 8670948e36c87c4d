"""How much room the networks and predictions take that a sweep keeps."""

from collections.abc import Iterable

from l2t_ray.config import TARGET, Run
from l2t_ray.errors import count
from l2t_ray.registry import DATA_SETS
from l2t_ray.run import AnyRun

N_CLASSES = 10  # where only the files show how many
BYTES = 4  # of a parameter and of a probability


def kept_bytes(runs: Iterable[AnyRun]) -> dict[str, tuple[int, int]]:
    """Returns what the runs keep: by file, how many and about how many bytes together."""
    found: dict[str, tuple[int, int]] = {}
    parameters: dict[str, int] = {}
    for run in runs:
        if not isinstance(run, Run):
            continue
        facts = DATA_SETS[run.data.name]
        n_classes = len(run.data.classes or ()) or facts.n_classes or N_CLASSES
        for name in run.kept:
            if name == TARGET:
                target = f"{run.target!r} {n_classes}"
                if target not in parameters:
                    parameters[target] = _count_parameters(run, n_classes)
                size = BYTES * parameters[target]
            else:
                size = BYTES * facts.n_test * n_classes
            n, total = found.get(name, (0, 0))
            found[name] = n + 1, total + size
    return found


def kept_text(runs: Iterable[AnyRun]) -> str:
    """Returns that in a line for the plan; empty where nothing is kept."""
    found = kept_bytes(runs)
    parts = [f"{name} of {count(n, 'run')}, about {size / n / 1e6:.1f} MB each" for name, (n, size) in found.items()]
    total = sum(size for _, size in found.values())
    return f"kept: {'; '.join(parts)}; {total / 1e6:,.0f} MB in the ledger's artifacts" if parts else ""


def _count_parameters(run: Run, n_classes: int) -> int:
    import torch

    from l2t_ray.models import build_target

    theta = build_target(run.target, n_classes).initial_theta(torch.Generator())
    return sum(tensor.numel() for tensor in theta.values())
