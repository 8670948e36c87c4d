"""The runs that a sweep wants, stored for the report, which could not know otherwise what is missing."""

import hashlib
import json
from dataclasses import asdict
from typing import Any


def content_of(sweep: Any) -> tuple[str, str]:
    """Returns a sweep's manifest as text, and its SHA-256."""
    content = json.dumps(manifest(sweep), separators=(",", ":"))
    return content, hashlib.sha256(content.encode()).hexdigest()


def manifest(sweep: Any) -> dict[str, Any]:
    """Returns what a report has to know of a sweep's runs.

    Args:
        sweep: a whole `l2t_ray.sweepfile.read.Sweep`.

    Returns:
        {sweep, runs: [{key, cell, seed, data, samples_per_class, method, epochs}]}, and `design` where one is declared;
        `metric` and `factors` (titles of what varies) where the trainer is the user's own
    """
    runs = [
        {
            "key": key,
            "cell": sweep.cells[key],
            "seed": run.seed,
            **run.labels(sweep.cells[key]),
            "epochs": run.epochs,
        }
        for key, run in sweep.runs.items()
    ]
    looks = getattr(sweep, "looks", None)
    more: dict[str, Any] = {"design": looks.design.to_json()} if looks else {}
    if getattr(sweep, "factors", None):
        more |= {"metric": asdict(sweep.metric), "factors": asdict(sweep.factors)}
    return {"sweep": sweep.name, "runs": runs, **more}
