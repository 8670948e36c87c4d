"""The runs that a sweep wants, kept for the report: what is missing cannot be seen in what is there."""

from collections.abc import Mapping
from typing import Any, Protocol

from l2t_ray.config import Run


class Wanted(Protocol):
    """A sweep, as far as the ledger knows it: `sweepfile.Sweep`."""

    @property
    def name(self) -> str:
        """The experiment."""

    @property
    def runs(self) -> Mapping[str, Run]:
        """By key."""

    @property
    def cells(self) -> Mapping[str, str]:
        """Key to cell."""


def manifest(sweep: Wanted) -> dict[str, Any]:
    """What a report has to know of the wanted runs.

    Args:
        sweep: the whole sweep.

    Returns:
        {sweep, runs: [{key, cell, seed, data, samples_per_class, method, epochs}]}, and `design` where one is declared
    """
    runs = [
        {
            "key": key,
            "cell": sweep.cells[key],
            "seed": run.seed,
            "data": run.data.title or run.data.name,
            "samples_per_class": run.data.samples_per_class,
            "method": run.method,
            "epochs": run.training.epochs,
        }
        for key, run in sweep.runs.items()
    ]
    looks = getattr(sweep, "looks", None)
    return {"sweep": sweep.name, "runs": runs, **({"design": looks.design.to_json()} if looks else {})}
