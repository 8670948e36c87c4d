"""The decision table of a step on a card: called, replayed, compiled, and packs of K runs.

    python -m benchmarks.decision_table [--seconds 200] [--out report/decision_table]

It prints kernels and milliseconds of a step of one run, and the share of the card's measured matrix rate, for both
batches, both precisions, and packs of 1, 2, 4 and 8 runs as branches of one graph; the ten kernels that take longest;
and three steps each of the published rule and of the two rivals. What matters most comes first, and what no time is
left for is named. Without a card it prints the kernels of a pretended one. Writes OUT.json line by line.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.bench_step import in_turn, matrix_rate, synchronize
from benchmarks.pretended import full_step, pretended_card
from benchmarks.steps import RIVALS, Case, Step, learner_of, make, operations
from l2t_ray.models.compiling import ONE_BLOCK, allow_compiling, is_compiling_allowed
from l2t_ray.training.cuda_graph import Replay

METHODS = ("scratch", "ufm", "l2t_ww", "l2t_www")
REPEAT = 10
SLOWEST = 10


@dataclass(frozen=True)
class Way:
    """How steps are taken."""

    batch: int
    precision: str
    pack: int  # K
    graph: bool
    compiled: bool
    inner: str = "sgd"
    one_block: int = ONE_BLOCK  # see `allow_compiling`

    def __str__(self) -> str:
        how = ("compiled, " if self.compiled else "") + ("replayed" if self.graph else "called")
        rule = "" if self.inner == "sgd" else f", {self.inner} rule"
        blocks = "" if self.one_block == ONE_BLOCK else f", one block to {self.one_block}"
        return f"B = {self.batch}, {self.precision}, K = {self.pack}, {how}{rule}{blocks}"


def ways() -> Iterator[Way]:
    """Yields the rows of the table, what decides most first."""
    for batch in (50, 128):
        yield Way(batch, "tf32", 1, graph=True, compiled=False)
        yield Way(batch, "tf32", 1, graph=True, compiled=True)
        yield Way(batch, "tf32", 1, graph=False, compiled=False)
    for compiled in (True, False):
        for pack in (4, 8, 2):
            for batch in (50, 128):
                yield Way(batch, "tf32", pack, graph=True, compiled=compiled)
    for batch in (50, 128):
        yield Way(batch, "tf32", 1, graph=True, compiled=False, inner="published")
        for pack in (1, 8, 4, 2):
            yield Way(batch, "bf16", pack, graph=True, compiled=True)
    for one_block in (0, 4 * ONE_BLOCK):
        for batch in (50, 128):
            yield Way(batch, "tf32", 1, graph=True, compiled=True, one_block=one_block)


def steps_of(way: Way, device: torch.device) -> Step:
    """A step of each of K runs, as branches of one graph or one after another."""
    case = Case(way.batch, "l2t_www", way.inner, way.precision)
    made = [learner_of(case, device, seed) for seed in range(way.pack)]

    def called(learner: Any) -> Any:
        def step(*inputs: torch.Tensor) -> None:
            learner.step(*inputs)

        return step

    state = [tensor for learner, _ in made for tensor in learner.tensors()]
    replay = Replay([called(learner) for learner, _ in made], state, captured=way.graph and device.type == "cuda")

    def once() -> None:
        allow_compiling("inductor" if way.compiled else None, one_block=way.one_block)
        with torch.no_grad():
            replay([inputs for _, inputs in made], [True] * way.pack)

    return once


def measure(way: Way, device: torch.device, rate: float) -> dict[str, Any]:
    """Times a row; its kernels are those that the card has run."""
    begun = time.perf_counter()
    step = steps_of(way, device)
    step()
    synchronize(device)
    first_s = time.perf_counter() - begun  # with warm-ups, capture, and compiling
    seconds = in_turn({"step": step}, REPEAT, device)["step"]
    ms = 1e3 * statistics.median(seconds) / way.pack
    share = operations(Case(way.batch, "l2t_www", way.inner)) / (ms / 1e3) / rate
    found = {"way": str(way), "ms_a_run": ms, "share_of_rate": share, "first_s": first_s, "seconds": seconds}
    if way.compiled and not is_compiling_allowed():
        found["problem"] = "no compiler works"
    if device.type == "cuda":
        found |= profiled(step)
    return found


def profiled(step: Step) -> dict[str, Any]:
    """The kernels of a step, and those that take longest."""
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        step()
        torch.cuda.synchronize()
    events = [event for event in seen.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA]
    by_time = sorted(events, key=lambda event: -event.self_device_time_total)
    longest = [[event.key[:90], event.count, event.self_device_time_total / 1e3] for event in by_time[:SLOWEST]]
    return {"kernels": sum(event.count for event in events), "longest": longest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=200.0, help="no row begins after so many seconds")
    parser.add_argument("--out", type=Path, default=Path("report/decision_table"))
    arguments = parser.parse_args()
    begun = time.perf_counter()
    file = arguments.out.with_suffix(".jsonl")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)

    def keep(row: dict[str, Any]) -> None:
        with file.open("a") as out:
            out.write(json.dumps(row) + "\n")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        print("no card: kernels of a step on a pretended one, B = 50 (an operation counts as one kernel)")
        for method in METHODS:
            with pretended_card():
                found = {str(way): full_step(method, 50, compiled=way).n_kernels for way in (False, True)}
            counts = {"method": method, **found}
            keep(counts)
            print(f"  {method:<10}{counts['False']:6} called or replayed{counts['True']:6} compiled", flush=True)
        print(f"written to {file}")
        return
    torch.backends.cudnn.benchmark = True
    rates = {precision: matrix_rate(precision, device) for precision in ("tf32", "bf16")}
    told = ", ".join(f"{name} {rate / 1e12:.0f} T/s" for name, rate in rates.items())
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, products give {told}; l2t_www, n = {REPEAT}")
    keep({"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rates": rates})
    rows = [*ways()]
    for number, way in enumerate(rows):
        if time.perf_counter() - begun > arguments.seconds:
            print(f"left out, no time: {'; '.join(map(str, rows[number:]))}")
            break
        try:
            row = measure(way, device, rates[way.precision])
        except RuntimeError as error:  # of this row; the next may fit
            row = {"way": str(way), "problem": str(error).partition("\n")[0]}
        keep(row)
        torch.cuda.empty_cache()
        if "ms_a_run" not in row:
            print(f"  {row['way']:<60}{row['problem']}", flush=True)
            continue
        text = f"{row['ms_a_run']:8.2f} ms a run  {row['share_of_rate']:6.1%} of the rate  {row['kernels']:6} kernels"
        print(f"  {row['way']:<52}{text}  first {row['first_s']:.1f} s  {row.get('problem', '')}", flush=True)
        if number < 2:
            for name, count, ms in row["longest"]:
                print(f"      {ms:7.2f} ms {count:5} x {name}")
    allow_compiling(None)
    for batch in (50, 128):
        for name in RIVALS:
            if time.perf_counter() - begun > arguments.seconds:
                print(f"left out, no time: {name}, B = {batch}")
                continue
            seconds = in_turn({name: make(name, Case(batch, "l2t_www", "sgd", "tf32"), device)}, 3, device)[name]
            keep({"way": name, "batch": batch, "seconds": seconds})
            print(f"  {name}, B = {batch}: {1e3 * statistics.median(seconds):.0f} ms", flush=True)
    print(f"written to {file}")


if __name__ == "__main__":
    main()
