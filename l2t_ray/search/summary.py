"""The results of a search, as text, as JSON, and as Optuna's own figures (history, importances, slices)."""

import io
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from l2t_ray.files import write_atomic
from l2t_ray.launch.summary import print_rows

if TYPE_CHECKING:
    from l2t_ray.sweepfile.search import Search

LEAST_TRIALS = 3  # complete trials with different values, for importances


@dataclass(frozen=True)
class Best:
    """A trial that no other trial beats."""

    trial: int  # its number
    values: tuple[float, ...]  # of the objectives, each the mean over the seeds
    settings: dict[str, Any]


@dataclass(frozen=True)
class StudySummary:
    """The state of one study."""

    cell: str  # its name in the grid
    study: str  # its name in Optuna's storage
    n_trials: int  # wanted
    n_complete: int  # trials with all their seeds
    n_pruned: int  # ended early, or diverged
    n_failed: int  # a run raised
    n_running: int
    own: float | None  # the first objective with the grid's own settings, if they were tried
    best: tuple[Best, ...]  # one; with two objectives the Pareto front

    @property
    def is_done(self) -> bool:
        """Whether all trials have ended."""
        return not self.n_running and self.n_complete + self.n_pruned + self.n_failed >= self.n_trials


def print_summaries(summaries: Sequence[StudySummary], search: "Search", stream: TextIO) -> None:
    """Prints a row for each study and each of its best trials."""
    objective = search.objectives[0].removesuffix("_percent").replace("_", " ")
    header = ("cell", "trials", "pruned", "failed", f"best {objective}", "with its own settings", "best settings")
    rows = []
    for item in summaries:
        n_ended = item.n_complete + item.n_pruned + item.n_failed
        counts = [f"{n_ended}/{item.n_trials}", *(str(n) if n else "" for n in (item.n_pruned, item.n_failed))]
        own = "" if item.own is None else f"{item.own:.2f}"
        for best in item.best or (None,):
            reached = "" if best is None else ", ".join(f"{value:.2f}" for value in best.values)
            settings = "" if best is None else ", ".join(f"{n}={_brief(v)}" for n, v in best.settings.items())
            rows.append((item.cell, *counts, reached, own, settings))
    print_rows(header, rows, stream)


def to_json(summaries: Sequence[StudySummary], search: "Search", sweep: str, storage: str) -> dict[str, Any]:
    """What `--json` prints; `storage` is the address without its password."""
    return {
        "sweep": sweep,
        "storage": storage,
        "objectives": search.objectives,
        "seeds": search.seeds,
        "studies": [{**asdict(summary), "is_done": summary.is_done} for summary in summaries],
        "best_file": str(search.best_file) if search.best_file.exists() else None,
    }


def _brief(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(study: Any, cell: str, objectives: Sequence[str], folder: Path) -> list[Path]:
    """Writes Optuna's figures of a study as SVG files and returns them; the study has at least one complete trial."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it would tell of a home folder that is closed
    os.environ["MPLBACKEND"] = "Agg"  # no display is needed, and a notebook's backend may not be installed
    import matplotlib as mpl

    mpl.use("Agg")  # where matplotlib was imported before
    import optuna
    from matplotlib import pyplot
    from optuna.visualization import matplotlib

    written = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns of an experimental backend and of figures of one trial
        whole = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        for index, name in enumerate(objectives):
            arguments: dict[str, Any] = {"target_name": name}
            if len(objectives) > 1:
                arguments["target"] = lambda trial, index=index: trial.values[index]
            kinds = {"history": matplotlib.plot_optimization_history, "slice": matplotlib.plot_slice}
            if len(whole) >= LEAST_TRIALS and len({trial.values[index] for trial in whole}) > 1:
                kinds["importance"] = matplotlib.plot_param_importances
            for kind, plot in kinds.items():
                plot(study, **arguments)
                figure = pyplot.gcf()
                buffer = io.BytesIO()
                figure.savefig(buffer, format="svg", bbox_inches="tight")
                pyplot.close(figure)
                suffix = "" if index == 0 else f"_{name}"
                path = folder / f"{_file_name(cell)}_{kind}{suffix}.svg"
                write_atomic(path, buffer.getvalue())
                written.append(path)
    return written


def _file_name(cell: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._=+-" else "_" for letter in cell)
