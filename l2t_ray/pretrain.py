"""The command line that trains a source network and writes its weights, with a card beside them.

Launching again resumes; launching when the weights are there does nothing. stdout is the result, stderr the progress.
Exit codes: 0 the weights are there; 1 interrupted, or the disk is full; 2 usage.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from l2t_ray.errors import InputError, LedgerUnavailableError, told_of_disk
from l2t_ray.launch.source_training import _say, as_record, pretrain
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.sweepfile.source_file import missing_starts, read_pretraining
from l2t_ray.training.model_card import Card, told
from l2t_ray.training.pretraining import Pretraining

EXPERIMENT = "sources"  # in MLflow, for what this command trains; a sweep's sources are in the sweep's


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: arguments, by default the process'.

    Returns:
        The exit code.

    Raises:
        OSError: any other than of a disk that is full or closed.
    """
    parser = argparse.ArgumentParser(prog="python -m l2t_ray.pretrain", description="Train a source network.")
    parser.add_argument("file", type=Path, help="YAML: out, data, source, training, augment, seed")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="override a setting")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of the data sets")
    parser.add_argument("--no-download", action="store_true", help="do not fetch data sets that are not there")
    parser.add_argument("--force", action="store_true", help="train anew, whatever is there")
    arguments = parser.parse_args(argv)
    out: Path | None = None
    try:
        settings = read_pretraining(arguments.file, overrides=arguments.set, data_dir=arguments.data_dir)
        out, ledger = Path(settings.out), Ledger(EXPERIMENT)  # now: an address that is none costs no training
        download, force = not arguments.no_download, arguments.force
        starts = missing_starts(arguments.file, settings)
        for file in starts.values():
            start = read_pretraining(file, data_dir=arguments.data_dir)
            card, is_new = pretrain(start, arguments.data_dir, download=download)
            _track(ledger, start, card, is_new=is_new)
        if starts:  # what they contain is known now
            settings = read_pretraining(arguments.file, overrides=arguments.set, data_dir=arguments.data_dir)
        card, is_new = pretrain(settings, arguments.data_dir, download=download, force=force)
        _track(ledger, settings, card, is_new=is_new)
    except InputError as error:
        _say(*error.problems)
        return 2
    except KeyboardInterrupt:
        is_begun = arguments.force and out is not None and not out.exists()  # --force would begin anew again
        _say(f"interrupted; launch again{' without --force' if is_begun else ''} to go on")
        return 1
    except OSError as error:
        if (line := told_of_disk(error)) is None:
            raise
        _say(line)
        return 1
    print(told(Path(settings.out), card))
    return 0


def _track(ledger: Ledger, settings: Pretraining, card: Card, *, is_new: bool) -> None:
    """Tells the ledger, and what an earlier launch of this command could not tell it."""
    if is_new:
        ledger.spool.put(as_record(settings, card, EXPERIMENT))
    if not len(ledger.spool):
        return
    try:
        with ledger.writing():
            ledger.flush()
    except (InputError, LedgerUnavailableError) as error:
        _say(f"{error}; the weights are there, their entry waits in {ledger.spool.folder} for the next launch")


if __name__ == "__main__":
    sys.exit(main())
