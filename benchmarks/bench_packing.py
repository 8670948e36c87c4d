"""Runs per hour of k processes with K runs each on one device, with and without NVIDIA MPS: the basis of the defaults.

    python -m benchmarks.bench_packing [--processes 1 2 4 8] [--pack 1 2 4 8 16] [--batch 50 128] [--method l2t_www]

The images are synthetic, of CIFAR's size, and as many as a batch (B), so that an epoch is one step. Every process warms
up, waits for all others, and then counts the epochs that it ends within `--seconds`; each may use 1 / k of the memory.
Writes `packing.json`, `packing.md` and `packing.svg` into `--out`; `ship_figures --packing` turns them into figures for
the planner. Needs neither Ray nor MLflow.
"""

import argparse
import json
import multiprocessing
import os
import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

try:
    import torch

    from benchmarks.packing_table import markdown, plot
    from l2t_ray import registry
    from l2t_ray.config import Run
    from l2t_ray.data.load import DataSet
    from l2t_ray.data.streams import stream
    from l2t_ray.errors import InputError
    from l2t_ray.launch.worker import mps
    from l2t_ray.models import ResNet, initialise
    from l2t_ray.training.device import context_bytes, device_name, is_out_of_memory, limit_memory
    from l2t_ray.training.pack import train
    from l2t_ray.training.run_training import EVALUATION_BATCH
except ModuleNotFoundError as error:
    needs = "torch torchvision numpy pydantic pyyaml, and matplotlib for the plot"
    raise SystemExit(f"bench_packing needs {error.name}; python -m pip install {needs}") from None

CLASSES = tuple("abcdefghij")
EPOCHS_A_RUN = 200  # as in the thesis; "runs per hour" counts runs of this length
WAIT_S = 300.0  # for the slowest process
Result = dict[str, Any]


class DoneError(Exception):
    """The time for counting epochs is over."""


def inputs(batch: int) -> tuple[dict[str, int], DataSet]:
    """B training images in ten classes of almost equal size, and one batch of test images."""
    samples = {name: batch // 10 + (place < batch % 10) for place, name in enumerate(CLASSES)}
    labels = torch.arange(10).repeat_interleave(torch.tensor([*samples.values()]))
    images = torch.randint(256, (batch + EVALUATION_BATCH, 3, 32, 32), dtype=torch.uint8)
    tests = torch.arange(EVALUATION_BATCH) % 10
    return samples, DataSet("synthetic", CLASSES, images[:batch], labels, images[batch:], tests, sha256="")


def work(case: dict[str, Any], barrier: Any, results: Any) -> None:
    """One process: trains K runs and counts the epochs that end in the time common to all processes."""
    os.environ.update(case["environment"])
    registry.load()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    limit_memory(1 / case["processes"])
    samples, data = inputs(case["batch"])
    source = ResNet(32, 1.0, 200)
    initialise(source, stream(0, "init"))
    source.requires_grad_(False).eval()
    settings = {
        "data": {"name": "cifar10", "samples_per_class": samples},
        "method": case["method"],
        "target": {"width": case["width"]},
        "training": {"epochs": 3, "batch_size": case["batch"], "precision": case["precision"], "lr": 1e-5},
        "record": {"evaluations": 0},
    }
    context = context_bytes(device)  # of this process alone
    result = {"epochs": 0, "seconds": 0.0, "evaluation_s": 0.0, "context_bytes": context, "problem": "diverged"}
    begun, marks = 0.0, [time.perf_counter()]

    def on_epoch(epoch: int, _: Any) -> None:
        nonlocal begun
        if epoch == case["warm_up"]:
            barrier.wait(WAIT_S)
            begun = time.perf_counter()
        elif epoch > case["warm_up"]:
            result["epochs"] += 1
            if time.perf_counter() - begun > case["seconds"]:
                raise DoneError

    def make(epochs: int) -> list[Run]:
        training = {**settings["training"], "epochs": epochs}
        return [Run.model_validate({**settings, "training": training, "seed": seed}) for seed in range(case["pack"])]

    try:
        train(make(3), data, source, device=device, on_epoch=lambda *_: marks.append(time.perf_counter()))
        result["evaluation_s"] = max(0.0, marks[3] - 2 * marks[2] + marks[1])  # only the third epoch ends with one
        train(make(10**6), data, source, device=device, on_epoch=on_epoch)
    except DoneError:
        result["problem"] = ""
    except Exception as error:
        result["problem"] = "out of memory" if is_out_of_memory(error) else repr(error)
        barrier.abort()
    result["seconds"] = time.perf_counter() - begun
    result["reserved_bytes"] = torch.cuda.max_memory_reserved() if device.type == "cuda" else 0
    results.put(result)


def measure(case: dict[str, Any]) -> Result:
    """Runs one case, all its processes together."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(case["processes"]), context.Queue()
    workers = [context.Process(target=work, args=(case, barrier, results)) for _ in range(case["processes"])]
    for worker in workers:
        worker.start()
    found: list[Result] = []
    end, died = time.monotonic() + 2 * WAIT_S, ""
    while len(found) < len(workers) and not died:
        try:
            found.append(results.get(timeout=1.0))
        except queue.Empty:
            codes = [worker.exitcode for worker in workers if worker.exitcode]
            died = f"a process died with exit code {codes[0]}" if codes else ""
            died = died or ("no answer" if time.monotonic() > end else "")
    for worker in workers:
        if died:
            worker.kill()
        worker.join()
    kept = {name: value for name, value in case.items() if name != "environment"}
    problems = [item["problem"] for item in found if item["problem"] and "BrokenBarrier" not in item["problem"]]
    problems += [died] if died else []
    if problems:
        return {**kept, "problem": problems[0], "runs_per_hour": None}
    epochs_a_second = sum(item["epochs"] / item["seconds"] for item in found)
    return {
        **kept,
        "problem": "",
        "epoch_s": sum(item["seconds"] / item["epochs"] for item in found) / len(found),
        "runs_per_hour": 3600 * case["pack"] * epochs_a_second / EPOCHS_A_RUN,
        **{name: max(item[name] for item in found) for name in ("evaluation_s", "reserved_bytes", "context_bytes")},
    }


def measure_all(arguments: argparse.Namespace) -> Iterator[Result]:
    """Measures every case; after one runs out of memory, larger packs of as many processes are left out."""
    for wish in arguments.mps:
        if wish == "on" and not torch.cuda.device_count():
            print("with MPS: left out, there is no card")
            continue
        folder = mps.folder_of(f"bench-{os.getpid()}")
        with ExitStack() as stack:
            environment = {}
            if wish == "on":
                try:
                    environment = stack.enter_context(mps.service("on", n_gpus=1, folder=folder))
                except InputError as error:
                    print(f"with MPS: left out, {error}")
                    continue
            for method in arguments.method:
                for batch in arguments.batch:
                    for processes in arguments.processes:
                        if wish == "on" and processes == 1:
                            continue
                        case = {"method": method, "batch": batch, "processes": processes, "mps": wish == "on"}
                        case |= {name: getattr(arguments, name) for name in ("width", "precision", "seconds")}
                        case |= {"warm_up": arguments.warm_up, "environment": dict(environment)}
                        for pack in sorted(arguments.pack):
                            if processes * pack > arguments.most:
                                break
                            row = measure({**case, "pack": pack})
                            text = row["problem"] or f"{row['runs_per_hour']:.1f} runs an hour"
                            print(f"{method}, B = {batch}, {processes} x {pack}, MPS {wish}: {text}", flush=True)
                            yield row
                            if row["problem"] == "out of memory":
                                break


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--pack", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--most", type=int, default=64, help="leave out cases of more runs at once")
    parser.add_argument("--batch", type=int, nargs="+", default=[50, 128], help="at least 10: each class has an image")
    parser.add_argument("--method", nargs="+", default=["l2t_www"])
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--mps", nargs="+", choices=["off", "on"], default=["off", "on"])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--warm-up", type=int, default=3, help="epochs")
    parser.add_argument("--out", type=Path, default=Path("report/packing"), metavar="DIR")
    arguments = parser.parse_args(argv)
    if min(arguments.batch) < 10:
        parser.error(f"--batch must be at least 10, got {min(arguments.batch)}")
    content: dict[str, Any] = {
        "device": device_name(),
        "torch": torch.__version__,
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
    }
    print(f"{content['device']}, torch {content['torch']}, {content['cores']} cores, n = 1 for each case")
    content["rows"] = []
    arguments.out.mkdir(parents=True, exist_ok=True)
    for row in measure_all(arguments):  # written after each case, so that an interruption loses none
        content["rows"].append(row)
        (arguments.out / "packing.json").write_text(json.dumps(content, indent=1) + "\n")
        (arguments.out / "packing.md").write_text(markdown(content))
    written = ["packing.json", "packing.md"]
    if plot(content, arguments.out / "packing.svg"):
        written.append("packing.svg")
    else:
        print("no plot: matplotlib is not installed, or no case was measured")
    print(f"written to {arguments.out}: {', '.join(written)}")


if __name__ == "__main__":
    main()
