"""A ledger as the thesis' experiments would have left it: cells of 30 seeds, drawn to match its printed numbers."""

import numpy as np

from analysis.results.published import MINORITY, SEEDS, Published, load_published
from tests.support.ledgers import Logged

IMBALANCED = '{"*": 100, "cat": 10}'


def thesis_runs(seed: int = 0, *, exact: bool = True, n_epochs: int = 1, further: int = 0, minority: bool = False):
    """Runs of Tables 1 to 3, and with `minority` of Table 4.

    `exact`: every cell has the printed mean and half-width, else only in expectation. `n_epochs`: points of each
    learning curve. `further`: runs of one more cell, to reach a wanted number of runs.
    """
    draws = np.random.default_rng(seed)
    runs = []
    for cell in load_published():
        if cell.data == MINORITY and not minority:
            continue
        values = draw(cell, draws, exact=exact)
        runs += [_run(cell, number, value, draws, n_epochs) for number, value in enumerate(values)]
    extra = Published(1, "cifar10", "300", "scratch", 40.0, 1.0)
    runs += [_run(extra, number, value, draws, n_epochs) for number, value in enumerate(draws.normal(40, 3, further))]
    return runs


def draw(cell: Published, draws: np.random.Generator, *, exact: bool) -> list[float]:
    """The accuracies of 30 seeds, drawn for a printed cell."""
    z = draws.normal(size=SEEDS)
    if exact:
        z = (z - z.mean()) / z.std(ddof=1)
    return (cell.mean + cell.sd() * z).tolist()


def _run(cell: Published, seed: int, value: float, draws: np.random.Generator, n_epochs: int) -> Logged:
    epochs = np.unique(np.linspace(1, 200, n_epochs).astype(int))
    noise = draws.normal(0, 0.5, len(epochs))
    accuracy = 10 + (value - 10) * (1 - np.exp(-epochs / 30)) / (1 - np.exp(-200 / 30)) + noise
    accuracy[-1] = value
    curves = {}
    if n_epochs > 1:
        curves = {"train_loss": list(zip(epochs.tolist(), (2.3 * np.exp(-epochs / 40) + 0.01).tolist(), strict=True))}
    if cell.data == MINORITY:
        points = {"test_accuracy_class_cat_percent": [(200, value)], **curves}
        return Logged("stl10", "100,cat=10", cell.method, seed, 35.0 + value / 50, curves=points,
                      params={"data.samples_per_class": IMBALANCED})  # fmt: skip
    if n_epochs > 1:
        curves["test_accuracy_percent"] = list(zip(epochs.tolist(), accuracy.tolist(), strict=True))
    return Logged(cell.data, cell.samples_per_class, cell.method, seed, value, curves=curves)
