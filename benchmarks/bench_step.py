"""Times the bilevel step (ours, double back-propagation, roll-back and re-computation) in units of forward + backward.

    python -m benchmarks.bench_step [--repeat 5] [--batch 50 128] [--method l2t_ww l2t_www] [--inner sgd published]
                                    [--precision tf32 bf16] [--out report/bench_step]

The unit is a plain forward + backward of VGG-9 (torch.nn, autograd, the faster memory format). All contenders of a case
are timed in turn, `--repeat` times; medians and ranges are printed. On a CPU each contender has a process of its own;
only ours and the unit "memory kept" keep freed memory there, as a training does; peak memory is what the steps add. On
a card, and on a CPU if `--precision` is given, our step is timed in each precision, called and replayed as a graph,
against the measured rate of a large matrix product.
Writes OUT.json and, if matplotlib is installed, OUT.png; `--plot OUT.json` draws it again.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.steps import KEPT, NAMES, ON_CARD, UNIT, Case, Step, make, operations, ours
from l2t_ray.models.precision import allow_tf32
from l2t_ray.training.device import keep_freed_memory

Rows = list[dict[str, Any]]
SIDE = 8192  # of the matrices whose product measures a card's rate
MEMORY_STEPS = 2


def synchronize(device: torch.device) -> None:
    """Waits until the card has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def in_turn(steps: Mapping[str, Step], repeat: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each step, timed in turn; the first turn warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeat + 1):
        for name, step in steps.items():
            synchronize(device)
            start = time.perf_counter()
            step()
            synchronize(device)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def apart(case: Case, repeat: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """On a CPU: seconds of each contender, timed in turn, and its peak memory; each has a process of its own."""
    context = multiprocessing.get_context("spawn")
    ends, seconds, peaks = {}, {}, {}
    for name in NAMES:
        ours_end, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, name, case), daemon=True).start()
        ends[name] = ours_end
        ours_end.recv()
    for name in NAMES:
        seconds[name] = []
    for turn in range(repeat + 1):
        for name, end in ends.items():
            end.send(True)
            elapsed = end.recv()
            if turn:
                seconds[name].append(elapsed)
    for name, end in ends.items():
        end.send(False)
        peaks[name] = end.recv()
    return seconds, peaks


def serve(end: Any, name: str, case: Case) -> None:
    """The process of a contender: takes a step at each request; at the end, sends the memory that its steps added."""
    if name in KEPT:
        keep_freed_memory()
    step = make(name, case, torch.device("cpu"))
    before = resident_bytes()
    end.send(None)
    while end.recv():
        start = time.perf_counter()
        step()
        end.send(time.perf_counter() - start)
    end.send(resident_bytes() - before)


def resident_bytes() -> int:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def on_card(case: Case, repeat: int, device: torch.device) -> tuple[dict[str, list[float]], dict[str, int]]:
    """On a card: seconds and peak memory as in `apart`, but in one process, whose allocator reports each peak."""
    steps, peaks = {}, {}
    for name in ON_CARD:
        try:
            peaks[name] = peak_bytes(make(name, case, device))
            steps[name] = make(name, case, device)
        except torch.OutOfMemoryError:
            print(f"  {name}: out of memory")
    return in_turn(steps, repeat, device), peaks


def peak_bytes(step: Step) -> int:
    """Bytes of a card's memory that two steps need in addition to the contender's own tensors."""
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(MEMORY_STEPS):
        step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - held


def matrix_rate(precision: str, device: torch.device) -> float:
    """Operations per second of a large matrix product, the best of ten."""
    allow_tf32(precision)
    side = SIDE if device.type == "cuda" else SIDE // 4
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    times = in_turn({"product": lambda: torch.mm(a, a)}, 10, device)["product"]
    return 2 * side**3 / min(times)


def compare(case: Case, repeat: int, device: torch.device) -> Rows:
    """Times our step and its rivals."""
    seconds, peaks = apart(case, repeat) if device.type == "cpu" else on_card(case, repeat, device)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    unit = min(medians[name] for name in medians if name.startswith(UNIT) and name not in KEPT)
    print(f"\n{case.method}, inner {case.inner}, B = {case.batch}, {case.precision}: the unit is {unit:.4f} s")
    rows = []
    for name, times in seconds.items():
        spread, peak = f"({min(times):.4f} to {max(times):.4f})", peaks[name]
        cost = f"{medians[name] / unit:8.1f} units{peak / 2**20:10.0f} MiB"
        print(f"  {name:<34}{medians[name]:9.4f} s  {spread}{cost}", flush=True)
        rows.append({**asdict(case), "name": name, "seconds": times, "unit_s": unit, "peak_bytes": peak})
    return rows


def ways(case: Case, repeat: int, device: torch.device, rate: float) -> Rows:
    """Times our step called and, on a card, replayed."""
    rows: Rows = []
    per_step = operations(case)
    for graph in (False, True) if device.type == "cuda" else (False,):
        this = replace(case, graph=graph)
        try:
            seconds = in_turn({"ours": ours(this, device)}, repeat, device)["ours"]
        except torch.OutOfMemoryError:
            print(f"  {'replayed' if graph else 'called'}: out of memory")
            continue
        median = statistics.median(seconds)
        speed = per_step / median
        text = f"{1e3 * median:9.2f} ms a step, {speed / 1e12:6.2f} T/s, {speed / rate:5.1%} of the rate"
        print(f"  {'replayed' if graph else 'called':<10}{text}", flush=True)
        rows.append({**asdict(this), "name": "ours", "seconds": seconds, "operations": per_step, "rate": rate})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--batch", type=int, nargs="+", default=[50, 128])
    parser.add_argument("--method", nargs="+", default=["l2t_ww", "l2t_www"])
    parser.add_argument("--inner", nargs="+", default=["sgd", "published"])
    parser.add_argument("--precision", nargs="+", help="of our step called and replayed; default on a card: all")
    parser.add_argument("--out", type=Path, default=Path("report/bench_step"))
    parser.add_argument("--plot", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plot:
        try:
            return draw(arguments.plot)
        except (OSError, ValueError, KeyError, TypeError) as error:
            parser.error(f"--plot must be a file that this command has written, got {arguments.plot}: {error!r}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    has_card = device.type == "cuda"
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True
    hardware = torch.cuda.get_device_name() if has_card else f"{platform.machine()} CPU"
    machine = f"{hardware}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{machine}, median of {arguments.repeat} (range)")
    usual = "tf32" if has_card else "float32"
    rows: Rows = []
    file = arguments.out.with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)

    def keep(found: Rows) -> None:
        """Writes the file after each case, so that an interruption loses none."""
        rows.extend(found)
        file.write_text(json.dumps({"hardware": machine, "rows": rows}, indent=1) + "\n")

    for batch in arguments.batch:
        for method in arguments.method:
            for inner in arguments.inner:
                keep(compare(Case(batch, method, inner, usual), arguments.repeat, device))
    for precision in arguments.precision or (["tf32", "bf16", "float32"] if has_card else []):
        rate = matrix_rate(precision, device)
        for batch in arguments.batch:
            method = arguments.method[-1]
            print(f"\nour step, {method}, B = {batch}, {precision}: products give {rate / 1e12:.1f} T/s")
            keep(ways(Case(batch, method, "sgd", precision), arguments.repeat, device, rate))
    print(f"\nwritten to {file}")
    draw(file)
    return None


def draw(file: Path) -> None:
    """Draws the picture beside the JSON file, if matplotlib is installed."""
    try:
        from benchmarks.plot_step import plot
    except ImportError as error:
        print(f"no picture: {error}; draw it elsewhere with python -m benchmarks.bench_step --plot {file}")
        return
    plot(json.loads(file.read_text()), file.with_suffix(".png"))
    print(f"and {file.with_suffix('.png')}")


if __name__ == "__main__":
    main()
