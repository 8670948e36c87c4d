"""Times what a run costs besides its steps: its start, an epoch's draws and images, and evaluating 10,000 images.

    python -m benchmarks.bench_costs [--batch 128] [--method l2t_ww] [--width 1] [--repeat 5] [--out report/bench_costs]

Each time is also given in bilevel steps of the same run, which are timed in turn with it. The start is that of fresh
processes, from their command to the end of the first step. Images are synthetic, of CIFAR-10's size. Writes OUT.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.bench_step import in_turn
from benchmarks.steps import frozen_source
from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.data.augment import epoch_draws
from l2t_ray.data.load import DataSet
from l2t_ray.training.run_training import RunTraining

N_TEST = 10_000


def training_of(batch: int, method: str, width: float, n_test: int, device: torch.device) -> RunTraining:
    """A run's training on synthetic images."""
    registry.load()
    settings = {
        "data": {"name": "cifar10", "samples_per_class": batch // 10},
        "method": method,
        "seed": 0,
        "target": {"width": width},
        "training": {"batch_size": batch},
        "record": {"evaluations": 0},
    }
    labels, tests = torch.arange(batch // 10 * 10) % 10, torch.arange(n_test) % 10
    images = torch.randint(256, (len(labels), 3, 32, 32), dtype=torch.uint8)
    shown = torch.randint(256, (n_test, 3, 32, 32), dtype=torch.uint8)
    data = DataSet("synthetic", tuple("abcdefghij"), images, labels, shown, tests, sha256="")
    return RunTraining(Run.model_validate(settings), data.to(device), frozen_source(device), device)


def first_step() -> None:
    """What a fresh process does: everything up to the end of the first step."""
    with torch.no_grad():
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        training_of(50, "l2t_ww", 0.125, 10, device).train_epoch(0)


def start_s(code: str, repeat: int) -> list[float]:
    """Wall seconds of `repeat` fresh processes that run this code."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--method", default="l2t_ww")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("report/bench_costs"))
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.no_grad():
        training = training_of(arguments.batch, arguments.method, arguments.width, N_TEST, device)
        run, n_images = training.run, len(training.labels)
        order, offsets, flips = (part.to(device) for part in epoch_draws(0, 0, n_images, run.augment))
        costs: dict[str, Callable[[], object]] = {
            "an epoch of one step": lambda: training.train_epoch(0),
            "its draws": lambda: epoch_draws(0, 0, n_images, run.augment),
            "its images, cropped and flipped": lambda: training.batch(order, offsets, flips),
            "evaluation of 10,000 images": lambda: training.evaluate(1),
        }
        seconds = in_turn(costs, arguments.repeat, device)
    code = "from benchmarks.bench_costs import first_step; first_step()"
    seconds["start to first step, width 1/8"] = start_s(code, arguments.repeat)
    seconds["of it: importing torch"] = start_s("import torch", arguments.repeat)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    step = medians["an epoch of one step"]
    hardware = f"{torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'}, torch {torch.__version__}"
    print(f"{hardware}, {arguments.method}, B = {n_images}, width {arguments.width:g}, median of {arguments.repeat}")
    for name, times in seconds.items():
        spread = f"({min(times):.4f} to {max(times):.4f})"
        print(f"  {name:<34}{medians[name]:9.4f} s {spread}{medians[name] / step:9.3f} steps")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    file = arguments.out.with_suffix(".json")
    file.write_text(json.dumps({"hardware": hardware, "seconds": seconds}, indent=1) + "\n")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
