"""`l2t export`: the network that a run kept, as a program that predicts without l2t-ray."""

import sys
import tempfile
from pathlib import Path

from l2t_ray import registry
from l2t_ray.config import TARGET
from l2t_ray.errors import InputError
from l2t_ray.ledger.reader import open_ledger


def export_run(name: str, out: Path, uri: str | None = None) -> int:
    """Writes the network that a run kept.

    Args:
        name: the run's key, or MLflow's id of it.
        out: the file to write; its folder is created.
        uri: of the ledger.

    Returns:
        The exit code.

    Raises:
        InputError: if there is no such run, it has kept no network, or the file cannot be written.
    """
    from l2t_ray.training.kept import export

    reader, shown = open_ledger(uri)
    found = [entry for entry in reader.entries() if entry.kind == "run" and name in {entry.key, entry.run_id}]
    if not found:
        raise InputError(f"{shown}: RUN must be the key or MLflow's id of a run in this ledger, got {name!r}")
    contents = [content for entry in found if (content := reader.artifact(entry, TARGET)) is not None]
    if not contents:
        raise InputError(
            f"{name}: has kept no network ({TARGET}); set `record: {{weights: last}}` in its sweep file and launch it "
            "again, which trains this run once more"
        )
    registry.load()
    try:  # before the work: torch's own errors would be no OSError
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
        if out.exists():
            out.open("ab").close()
        network = export(contents[0], out)
    except OSError as error:
        rule = f"--out must be a file that can be written, got {error.strerror!r}"
        raise InputError(f"{out}: {rule}; name another") from error
    takes, classes = f"[B, 3, {network.side}, {network.side}]", network.classes
    print(f"{out}: takes images as bytes {takes}, returns logits of {len(classes)} classes ({', '.join(classes)})")
    print(f"torch.export.load('{out}').module()(images)", file=sys.stdout)
    return 0
