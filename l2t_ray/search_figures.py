"""Optuna's own figures of a study, drawn by its matplotlib backend: history, importance of the settings, slices."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l2t_ray.files import write_atomic

LEAST_TRIALS = 3  # for importances: whole ones, of unlike values


def draw(study: Any, cell: str, objectives: Sequence[str], folder: Path) -> list[Path]:
    """Writes a study's figures as SVG.

    Args:
        study: Optuna's, with a whole trial.
        cell: its name in the grid.
        objectives: names of the metrics.
        folder: where to.

    Returns:
        The files.
    """
    import matplotlib as mpl

    mpl.use("Agg")  # no display is needed
    import optuna
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as figures

    written = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an experimental backend, and of figures with a single trial
        whole = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        for index, name in enumerate(objectives):
            arguments: dict[str, Any] = {"target_name": name}
            if len(objectives) > 1:
                arguments["target"] = lambda trial, index=index: trial.values[index]
            kinds = {"history": figures.plot_optimization_history, "slice": figures.plot_slice}
            if len(whole) >= LEAST_TRIALS and len({trial.values[index] for trial in whole}) > 1:
                kinds["importance"] = figures.plot_param_importances
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
