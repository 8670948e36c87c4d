"""What checkpoints cost: trains the thesis' network with them, and times and weighs each one.

python -m benchmarks.bench_checkpoints [--seconds 60] [--interval 10] [--method l2t_www]
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from l2t_ray import models, registry
from l2t_ray.config import Run
from l2t_ray.data.streams import stream
from l2t_ray.launch.worker.job import Work, encode
from l2t_ray.launch.worker.train import StoppedError, train_pack
from l2t_ray.training import checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of training")
    parser.add_argument("--interval", type=float, default=10.0, help="execution.checkpoint_s")
    parser.add_argument("--method", default="l2t_www")
    parser.add_argument("--out", type=Path, default=Path("report/bench_checkpoints.json"))
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    registry.load()
    spent: list[tuple[float, int]] = []
    whole_s = 0.0
    save = checkpoint.save_state

    def timed(file: Any, state: Any) -> None:
        began = time.perf_counter()
        save(file, state)
        spent.append((time.perf_counter() - began, file.stat().st_size))

    checkpoint.save_state = timed
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        network = models.build("resnet32", 1.0, 200)
        models.initialise(network, stream(0, "init"))
        torch.save({"state_dict": network.state_dict()}, folder / "net.pt")
        run = Run.model_validate({
            "data": {"name": "digits", "samples_per_class": 1},
            "method": arguments.method,
            "source": {"weights": str(folder / "net.pt")},
            "seed": 0,
            "transfer": {"beta": 0.001},
            "training": {"epochs": 100_000, "lr": 0.001},
            "record": {"evaluations": 0},
        })
        work = Work(str(folder), str(folder / "kept"), str(folder / "data"), checkpoint_s=arguments.interval)
        here = Path.cwd()
        began = time.perf_counter()
        try:
            train_pack(work, encode([run]), lambda *_: None, lambda: time.perf_counter() - began > arguments.seconds)
        except StoppedError:
            whole_s = time.perf_counter() - began
        os.chdir(here)
    seconds = sorted(s for s, _ in spent)
    row = {
        "method": arguments.method,
        "n": len(spent),
        "median_s": seconds[len(seconds) // 2],
        "worst_s": seconds[-1],
        "bytes": spent[-1][1],
        "interval_s": arguments.interval,
        "share_percent": 100 * sum(seconds) / whole_s,
        "share_at_60_s_percent": 100 * seconds[len(seconds) // 2] / 60,
        "load": os.getloadavg()[0],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(row, indent=1) + "\n")
    print(
        "{n} checkpoints of {bytes} bytes: {median_s:.2f} s each (median; longest {worst_s:.2f}), every "
        "{interval_s:.0f} s: {share_percent:.2f} % of the time; at 60 s {share_at_60_s_percent:.2f} %".format(**row)
    )


if __name__ == "__main__":
    main()
