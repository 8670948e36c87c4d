"""Writes the figures that the planner ships with, for the shapes of sweep files: measured here or by `bench_packing`.

    python -m benchmarks.ship_figures sweeps/quickstart.yaml [--pack 1 2 4] [--idle]
    python -m benchmarks.ship_figures sweeps/cifar10_small.yaml --packing report/packing/packing.json

When measured here, each shape gets a process of its own. The figures hold the hardware, the versions and whether the
machine was idle.
"""

import argparse
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.packing_table import figure_of
from l2t_ray.config import Run
from l2t_ray.errors import InputError
from l2t_ray.launch.placement.measurements import Figure, Speed
from l2t_ray.launch.placement.packing import speed_shape
from l2t_ray.launch.worker.job import Work, encode
from l2t_ray.launch.worker.probe import Prober
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.training.device import device_name

OUT = Path(__file__).parents[1] / "l2t_ray" / "launch" / "placement" / "shipped.json"


def measure(work: str, runs: str, packs: list[int], begun: float) -> dict[str, Any]:
    """Measures one shape, in a process of its own."""
    prober = Prober(work, runs, begun)
    ready = prober.ready()
    return {**ready, "speeds": [found for pack in packs if (found := prober.speed(pack)) is not None]}


def processor() -> str:
    """The name of the CPU."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def measured(run: Run, packs: list[int], note: str, work: Work) -> Figure:
    """The figure of one shape, from real steps on this machine."""
    runs = encode([run.model_copy(update={"seed": seed}) for seed in range(max(packs))])
    begun = time.time()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(measure, (work.to_json(), runs, packs, begun))
    speeds = tuple(Speed(**values) for values in found["speeds"])
    return Figure(speeds, context_bytes=found["context_bytes"], start_s=found["start_s"], note=note)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--pack", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--idle", action="store_true", help="note that nothing else was running")
    parser.add_argument(
        "--packing", type=Path, metavar="FILE", help="packing.json of bench_packing; nothing is measured"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    shapes: dict[str, Run] = {}
    work = Work(folder=str(Path.cwd()), checkpoints=".l2t/probe", data_dir=str(Path("data").resolve()))
    for file in arguments.files:
        try:
            for run in read_sweep(file).runs.values():
                shapes.setdefault(speed_shape(run), run)
        except InputError as error:
            print(f"{file} is left out: {error}")
    packing = json.loads(arguments.packing.read_text()) if arguments.packing else None
    device = packing["device"] if packing else device_name()
    hardware = processor() if device == "cpu" else device
    state = "idle" if arguments.idle else "busy with other work"
    note = f"{hardware}, 1 thread, torch {torch.__version__}, n = 1, the machine was {state}"
    content = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for name, run in shapes.items():
        figure = figure_of(packing, run) if packing else measured(run, arguments.pack, note, work)
        what = f"{run.data.name}, {run.data.samples_per_class} images a class, {run.method}"
        if figure is None:
            print(f"{what}: left out, as its method, width, precision or number of images was not measured")
            continue
        content[f"{name}|{device}"] = asdict(replace(figure, basis="shipped"))
        speeds = ", ".join(f"K = {speed.pack}: {speed.epoch_s:.3f} s" for speed in figure.speeds)
        print(f"{what}: {speeds}")
    arguments.out.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
