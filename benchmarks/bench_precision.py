"""What `training.precision` does to final accuracies: the same seeds in float32, tf32 and bf16, on digits.

    python -m benchmarks.bench_precision --weights weights/resnet32-tinyimagenet.pt [--seeds 10] [--out FILE]

Without a card that has TF32, its rounding is emulated: the float32 operands of every product are rounded to 10 bits of
mantissa, and sums stay float32. Writes OUT.json after every method and precision, and prints a table.
"""

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from l2t_ray import registry
from l2t_ray.config import Augment, Data, Run, Source, Target, Training
from l2t_ray.data.load import load_data
from l2t_ray.models import load_source
from l2t_ray.statistics.hypothesis import wilcoxon
from l2t_ray.statistics.means import half_width
from l2t_ray.training.device import device_name
from l2t_ray.training.pack import train

METHODS = ("scratch", "ufm", "l2t_ww", "l2t_www")
PRECISIONS = ("float32", "tf32", "bf16")
ACCURACY = "test_accuracy_percent"
_LOST_BITS = 13  # of float32's 23
_OPERANDS = {  # of every product that training calls: the positions of the arguments that are multiplied
    torch.ops.aten.convolution.default: (0, 1),
    torch.ops.aten.convolution_backward.default: (0, 1, 2),
    torch.ops.aten.mm.default: (0, 1),
    torch.ops.aten.bmm.default: (0, 1),
    torch.ops.aten.mm.out: (0, 1),
    torch.ops.aten.addmm.default: (1, 2),
    torch.ops.aten.addmm_.default: (1, 2),
    torch.ops.aten.baddbmm.default: (1, 2),
}


def rounded(x: Tensor) -> Tensor:
    """A float32 tensor rounded to 10 bits of mantissa (to the nearest, halves away from zero); others as they are."""
    if x.dtype != torch.float32:
        return x
    half, kept = 1 << (_LOST_BITS - 1), -(1 << _LOST_BITS)
    return ((x.view(torch.int32) + half) & kept).view(torch.float32)


class RoundedOperands(TorchDispatchMode):  # type: ignore[misc]  # torch's class has no types
    """Rounds the operands of every product, as a card's TF32 does."""

    def __init__(self) -> None:
        super().__init__()
        self.n_products = 0  # how many had their operands rounded

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: tuple[Any, ...] = (), settings: dict[str, Any] | None = None
    ) -> Any:
        multiplied = _OPERANDS.get(operation, ())
        self.n_products += bool(multiplied)
        given = [rounded(x) if i in multiplied else x for i, x in enumerate(arguments)]
        return operation(*given, **(settings or {}))


def runs_of(method: str, precision: str, arguments: argparse.Namespace) -> list[Run]:
    """One run per seed."""
    return [
        Run(
            data=Data(name="digits", samples_per_class=arguments.samples),
            method=method,
            seed=seed,
            source=Source(weights=str(arguments.weights)),
            target=Target(width=arguments.width),
            training=Training(epochs=arguments.epochs, batch_size=arguments.batch, lr=0.05, precision=precision),
            augment=Augment(crop_padding=2, flip=False),  # a mirrored digit is another symbol
        )
        for seed in range(arguments.seeds)
    ]


def accuracies(runs: list[Run], device: torch.device) -> dict[int, float]:
    """Seed -> final accuracy in percent of the runs that finished; a card trains them as one pack, a CPU one by one."""
    data = load_data(runs[0].data, Path("data"))
    packs = [runs] if device.type == "cuda" else [[run] for run in runs]
    emulated = device.type != "cuda" and runs[0].training.precision != "float32"
    found = {}
    for pack in packs:
        source = load_source(runs[0].source) if runs[0].method != "scratch" else None
        rounding = RoundedOperands()
        with rounding if emulated else nullcontext():
            outcomes = train(pack, data, source, device=device)
        assert not emulated or rounding.n_products > 0, "training uses products that this script does not know"
        for run, outcome in zip(pack, outcomes, strict=True):
            if outcome.status == "finished":
                found[run.seed] = outcome.metrics[ACCURACY][-1][1]
    return found


def row(found: dict[str, dict[int, float]]) -> str:
    """A method's line: mean and 95 % half-width for each precision, paired change from the first, and Wilcoxon's p."""
    cells: list[str] = []
    first, *_ = found.values()
    for by_seed in found.values():
        values = np.array(list(by_seed.values()))
        cells.append(f"{values.mean():.2f} +- {half_width(float(values.std(ddof=1)), len(values)):.2f}")
        if by_seed is not first:
            changes = np.array([by_seed[seed] - first[seed] for seed in sorted(first.keys() & by_seed.keys())])
            width, p = half_width(float(changes.std(ddof=1)), len(changes)), wilcoxon(by_seed, first).p
            cells.append(f"{changes.mean():+.2f} +- {width:.2f}" + ("" if p is None else f", p {p:.2f}"))
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="of a ResNet-32: the published one, or your own")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--samples", type=int, default=5, help="images a class")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--out", type=Path, default=Path("report/precision"))
    arguments = parser.parse_args()
    registry.load()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    emulated = "" if device.type == "cuda" else ", TF32 emulated"
    print(f"{device_name()}, torch {torch.__version__}{emulated}; n = {arguments.seeds} seeds, {ACCURACY}")
    first, *others = arguments.precisions
    columns = ["method", first, *(column for name in others for column in (name, f"change from {first}"))]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, dict[int, float]]] = {}
    for method in arguments.methods:
        found[method] = {}
        for precision in arguments.precisions:
            found[method][precision] = accuracies(runs_of(method, precision, arguments), device)
            content = {"device": device_name(), "torch": torch.__version__, "emulated": bool(emulated)}
            arguments.out.with_suffix(".json").write_text(json.dumps({**content, "by_method": found}))
        print(f"| {method} | {row(found[method])} |", flush=True)


if __name__ == "__main__":
    main()
