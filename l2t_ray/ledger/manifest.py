"""The runs that a sweep wants, stored for the report, which could not know otherwise what is missing."""

from typing import Any


def manifest(sweep: Any) -> dict[str, Any]:
    """Returns what a report has to know of a sweep's runs.

    Args:
        sweep: a whole `l2t_ray.sweepfile.read.Sweep`.

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
