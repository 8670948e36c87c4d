"""Draws the figure of the README and of docs/results.md, light and dark, from the spool of a finished sweep.

    python -m benchmarks.draw_result SPOOL.tar.gz --out docs/results_cifar10

The archive holds `.l2t/SWEEP/spool/KEY.json`, as `l2t_ray.offline` leaves it. Its results are written into a ledger in
a temporary folder. The figure is the report's own. Writes OUT_light.svg, OUT_dark.svg and OUT.csv.
"""

import argparse
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from analysis.figures.accuracy import draw_seeds
from analysis.results.cells import make_cells
from analysis.results.runs import read_results
from l2t_ray.files import write_atomic
from l2t_ray.ledger.ledger import Ledger

DARK = {"#000000": "#e6edf3", "#dddddd": "#3a424c", "#0072b2": "#4aa8e0"}  # ink, grid, and the blue of L2T-www
ROOT_TAG = "<svg "


def variants(svg: str) -> dict[str, str]:
    """The drawing without its white ground, for light pages, and with bright ink, for dark ones."""
    plain = svg.replace("fill: #ffffff", "fill: none")
    dark = plain
    for light, bright in DARK.items():
        dark = dark.replace(light, bright)
    return {"light": plain, "dark": dark.replace(ROOT_TAG, f'{ROOT_TAG}fill="{DARK["#000000"]}" ', 1)}


def fill(archive: Path, folder: Path) -> list[str]:
    """Unpacks the spool into a folder and writes its results into a ledger there; returns the sweeps."""
    with tarfile.open(archive) as tar:
        for member in tar:
            _, _, place = member.name.partition(".l2t/")
            parts = place.split("/")  # SWEEP/spool/KEY.json, and nothing else
            content = tar.extractfile(member)
            if content is None or len(parts) != 3 or ".." in parts or not place.endswith(".json"):
                continue
            path = folder / ".l2t" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())
    sweeps = sorted(path.parent.name for path in folder.glob(".l2t/*/spool"))
    for sweep in sweeps:
        ledger = Ledger(sweep, f"sqlite:///{folder}/mlflow.db", folder=folder)
        ledger.check()
        with ledger.writing():
            ledger.flush()
            ledger.settle()
    return sweeps


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the first data set of the archive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results_cifar10"), help="beginning of the files' names")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        sweeps = fill(arguments.archive, Path(name))
        results = read_results(sweeps, uri=f"sqlite:///{name}/mlflow.db")
        drawing = draw_seeds(make_cells(results), None)[0]
    for kind, text in variants(drawing.svg).items():
        write_atomic(arguments.out.with_name(f"{arguments.out.name}_{kind}.svg"), text.encode())
    write_atomic(arguments.out.with_suffix(".csv"), drawing.numbers.to_csv(index=False, lineterminator="\n").encode())
    print(f"{len(drawing.numbers)} runs of {', '.join(sweeps)}: {arguments.out}_light.svg, {arguments.out}_dark.svg")


if __name__ == "__main__":
    main()
