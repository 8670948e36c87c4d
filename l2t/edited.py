"""Whether a sweep file is still what its last launch asked for: reports are of that."""

from pathlib import Path

from l2t_ray.errors import InputError, count
from l2t_ray.ledger.manifest import content_of
from l2t_ray.ledger.reader import open_ledger
from l2t_ray.sweepfile.read import read_sweep


def note_on(path: Path, uri: str | None) -> str | None:
    """Returns a line where a report by a file's name is not of the file as it stands.

    Args:
        path: of a sweep file.
        uri: of the ledger; else MLFLOW_TRACKING_URI or mlflow.db.
    """
    remedy = f"`l2t plan {path}` shows what it wants"
    try:
        sweep = read_sweep(path)
    except InputError as error:
        more = f", and {count(len(error.problems) - 1, 'more problem')}" if len(error.problems) > 1 else ""
        return f"{path}: the report is of the last launch; the file cannot be read now: {error.problems[0]}{more}"
    reader, _ = open_ledger(uri)
    own = [entry for entry in reader.entries() if entry.kind == "manifest" and entry.experiment == sweep.name]
    if sweep.search is not None or not own:
        return None
    run_id = own[-1].run_id  # of the manifest that reports read
    if reader.details([run_id])[run_id].tags.get("manifest_sha") == content_of(sweep)[1]:
        return None
    return f"{path}: the report is of the last launch, which asked for something else than the file does now; {remedy}"
