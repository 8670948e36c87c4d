"""Times what commands take before they answer: CPU seconds of fresh processes, with n and range.

    python -m benchmarks.bench_startup [--code FOLDER] [--repeat 5]

FOLDER holds the code whose commands are run, by default this folder. It must have `sweeps/`.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WRONG = "sweep: x\ngrid:\n- {data: {name: digits, samples_per_class: 1}, method: scrach, seed: 0}\n"
COMMANDS = {
    "`sweep --help`": ("l2t_ray.sweep", "--help"),
    "`pretrain --help`": ("l2t_ray.pretrain", "--help"),
    "`stats --help`": ("analysis.stats", "--help"),
    "`sweep` refuses a wrong file": ("l2t_ray.sweep", "wrong.yaml"),
    "`sweep --plan`, 64 runs": ("l2t_ray.sweep", "sweeps/quickstart.yaml", "--plan"),
    "`sweep --status`, 64 runs": ("l2t_ray.sweep", "sweeps/quickstart.yaml", "--status"),
}


def cpu_s(words: tuple[str, ...], code: Path, folder: Path) -> float:
    """CPU seconds of one command in a working folder."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(code)}
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, check=False)
    if done.returncode not in {0, 2}:
        raise SystemExit(f"{' '.join(words)}: {done.stderr.decode()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints a row for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code", type=Path, default=Path())
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    code = options.code.resolve()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "wrong.yaml").write_text(WRONG)
        Path(folder, "sweeps").symlink_to(code / "sweeps")
        for name, words in COMMANDS.items():
            cpu_s(words, code, Path(folder))  # compiles the modules, reads them from the disk
            times = [cpu_s(words, code, Path(folder)) for _ in range(options.repeat)]
            print(f"| {name} | {statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f}) |", flush=True)


if __name__ == "__main__":
    main()
