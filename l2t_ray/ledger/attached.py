"""A report in MLflow: its page becomes an artifact of the sweep's manifest run, and the sweep's page links to it."""

import shutil
import tempfile
from pathlib import Path

from l2t_ray.errors import InputError
from l2t_ray.ledger.address import reaching
from l2t_ray.ledger.client import connect
from l2t_ray.ledger.view import NOTE, experiment_tags

ARTIFACT = "report.html"  # not in a folder: MLflow's pages open only such a file by its address


def attach(uri: str, sweep: str, page: Path) -> None:
    """Copies a report's page into the ledger; it replaces an earlier one.

    Args:
        uri: of MLflow.
        sweep: whose experiment gets it.
        page: of the report.

    Raises:
        InputError: if the sweep was never launched, or the ledger cannot be written.
        LedgerUnavailableError: if it does not answer.
    """
    with reaching(uri), tempfile.TemporaryDirectory() as folder:
        client = connect(uri, writing=True)
        experiment = client.get_experiment_by_name(sweep)
        ids = [experiment.experiment_id] if experiment else []
        found = client.search_runs(ids, "tags.`l2t.kind` = 'manifest'", order_by=["start_time DESC"]) if ids else []
        if not found:
            raise InputError(f"--attach: {sweep} must have been launched into this ledger; leave --attach out")
        run_id = found[0].info.run_id
        client.log_artifact(run_id, shutil.copyfile(page, f"{folder}/{ARTIFACT}"))
        link = f"#/experiments/{ids[0]}/runs/{run_id}/artifacts/{ARTIFACT}"
        client.set_experiment_tag(ids[0], NOTE, f"[Report]({link}). {experiment_tags(sweep)[NOTE]}")
