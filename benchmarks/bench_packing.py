"""Runs per hour for k processes of K runs on one device, with and without NVIDIA MPS: the table behind the defaults.

    python -m benchmarks.bench_packing [--processes 1 2 4 8] [--pack 1 2 4 8 16] [--batch 50 128] [--method l2t_www]

Synthetic images of CIFAR's size; every process warms up, waits for all others, and then counts the epochs that it ends
within `--seconds`. A case that runs out of memory is told as such. Writes JSON, and a plot beside it.
"""

import argparse
import json
import multiprocessing
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from l2t_ray import mps, registry
from l2t_ray.config import Run
from l2t_ray.data import DataSet
from l2t_ray.models import initialise, resnet
from l2t_ray.streams import stream
from l2t_ray.trainable import device_name, is_out_of_memory
from l2t_ray.training import train

EPOCHS_A_RUN = 200  # of the thesis: what "runs per hour" counts
WAIT_S = 300.0
Result = dict[str, Any]


class DoneError(Exception):
    """The time is over."""


def work(case: dict[str, Any], barrier: Any, results: Any) -> None:
    """One process: K runs, whose epochs in the common time are counted."""
    os.environ.update(case["environment"])
    registry.load()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    per_class = case["batch"] // 10
    labels = torch.arange(10).repeat_interleave(per_class)
    images = torch.randint(256, (len(labels), 3, 32, 32), dtype=torch.uint8)
    data = DataSet("synthetic", tuple("abcdefghij"), images, labels, images[:10], labels[:10], sha256="")
    source = resnet(32, 1.0, 200)
    initialise(source, stream(0, "init"))
    settings = {
        "data": {"name": "cifar10", "samples_per_class": per_class},
        "method": case["method"],
        "target": {"width": case["width"]},
        "training": {"epochs": 10**6, "batch_size": case["batch"], "precision": case["precision"], "lr": 1e-5},
        "record": {"evaluations": 0},
    }
    runs = [Run.model_validate({**settings, "seed": seed}) for seed in range(case["pack"])]
    begun, n_epochs = 0.0, 0

    def on_epoch(epoch: int, _: Any) -> None:
        nonlocal begun, n_epochs
        if epoch == case["warm_up"]:
            barrier.wait(WAIT_S)
            begun = time.perf_counter()
        elif epoch > case["warm_up"]:
            n_epochs += 1
            if time.perf_counter() - begun > case["seconds"]:
                raise DoneError

    problem = "diverged"  # unless the time is over first
    try:
        train(runs, data, source.requires_grad_(False).eval(), device=device, on_epoch=on_epoch)
    except DoneError:
        problem = ""
    except Exception as error:
        problem = "out of memory" if is_out_of_memory(error) else repr(error)
        barrier.abort()
    reserved = torch.cuda.max_memory_reserved() if device.type == "cuda" else 0
    seconds = time.perf_counter() - begun
    results.put({"epochs": n_epochs, "seconds": seconds, "reserved_bytes": reserved, "problem": problem})


def measure(case: dict[str, Any]) -> Result:
    """One case: all its processes together."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(case["processes"]), context.Queue()
    started = time.perf_counter()
    workers = [context.Process(target=work, args=(case, barrier, results)) for _ in range(case["processes"])]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=2 * WAIT_S) for _ in workers]
    for worker in workers:
        worker.join()
    kept = {name: value for name, value in case.items() if name != "environment"}
    problems = [item["problem"] for item in found if item["problem"] and "BrokenBarrier" not in item["problem"]]
    if problems:
        return {**kept, "problem": problems[0], "runs_per_hour": None}
    epochs_a_second = sum(item["epochs"] / item["seconds"] for item in found)
    return {
        **kept,
        "problem": "",
        "epoch_s": sum(item["seconds"] / item["epochs"] for item in found) / len(found),
        "runs_per_hour": 3600 * case["pack"] * epochs_a_second / EPOCHS_A_RUN,
        "reserved_bytes": max(item["reserved_bytes"] for item in found),
        "whole_s": time.perf_counter() - started,
    }


def plot(rows: list[Result], out: Path, title: str) -> None:
    """Runs per hour over K k, a line for each k."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    panels = sorted({(row["batch"], row["mps"]) for row in rows})
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.2), squeeze=False, sharey=True)
    for axis, (batch, served) in zip(axes[0], panels, strict=True):
        here = [row for row in rows if (row["batch"], row["mps"]) == (batch, served) and row["runs_per_hour"]]
        for processes in sorted({row["processes"] for row in here}):
            line = sorted(
                (processes * row["pack"], row["runs_per_hour"]) for row in here if row["processes"] == processes
            )
            axis.plot(*zip(*line, strict=True), marker="o", label=f"{processes} processes")
        axis.set(title=f"B = {batch}, {'with' if served else 'without'} MPS", xlabel="runs at once", xscale="log")
    axes[0][0].set_ylabel("runs per hour")
    axes[0][-1].legend()
    figure.suptitle(title)
    figure.savefig(out, bbox_inches="tight", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--pack", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--most", type=int, default=64, help="cases of more runs at once are left out")
    parser.add_argument("--batch", type=int, nargs="+", default=[50, 128])
    parser.add_argument("--method", default="l2t_www")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--mps", nargs="+", choices=["off", "on"], default=["off", "on"])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("report/bench_packing.json"))
    arguments = parser.parse_args()
    hardware = f"{device_name()}, torch {torch.__version__}, {arguments.method}, {arguments.precision}"
    print(f"{hardware}, {len(os.sched_getaffinity(0))} cores, n = 1 for each case")
    rows: list[Result] = []
    has_card = bool(torch.cuda.device_count())
    for wish in arguments.mps:
        folder = mps.folder_of(f"bench-{os.getpid()}")
        if wish == "on" and not has_card:
            print("with MPS: left out, there is no card")
            continue
        with mps.service("on", n_gpus=1, folder=folder) if wish == "on" else nullcontext({}) as environment:
            for batch in arguments.batch:
                for processes in arguments.processes:
                    for pack in arguments.pack:
                        if processes * pack > arguments.most or (wish == "on" and processes == 1):
                            continue
                        case = {"batch": batch, "processes": processes, "pack": pack, "mps": wish == "on"}
                        case |= {name: getattr(arguments, name) for name in ("method", "width", "precision", "seconds")}
                        case |= {"warm_up": arguments.warm_up, "environment": dict(environment)}
                        rows.append(measure(case))
                        told = rows[-1]["problem"] or f"{rows[-1]['runs_per_hour']:.1f} runs an hour"
                        print(f"B = {batch}, {processes} x {pack}, MPS {wish}: {told}", flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"hardware": hardware, "rows": rows}, indent=1) + "\n")
    plot(rows, arguments.out.with_suffix(".png"), hardware)
    print(f"written to {arguments.out} and {arguments.out.with_suffix('.png')}")


if __name__ == "__main__":
    main()
