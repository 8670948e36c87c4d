"""The command that trains a source network and writes its weights, with a card beside them.

Launching again resumes; launching when the weights are there does nothing. stdout is the result, stderr the progress.
Exit codes: 0 the weights are there; 1 interrupted, or the disk is full; 2 usage.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.errors import InputError, LedgerUnavailableError
from l2t_ray.usage import Parser, command, local

if TYPE_CHECKING:
    from l2t_ray.ledger.ledger import Ledger
    from l2t_ray.training.model_card import Card
    from l2t_ray.training.source_settings import Pretraining

ABOUT = "Train a source network and write its weights. Launching again resumes."
FORM = "FILE [options]"
EXPERIMENT = "sources"  # in MLflow; a source that a launch trains is recorded in the sweep's experiment


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; argv is the process' own by default."""
    example = "python -m l2t_ray.pretrain sweeps/quickstart_source.yaml"
    parser = Parser(prog="python -m l2t_ray.pretrain", description=ABOUT, form=FORM, example=example)
    return command(configure, parser, argv)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    parser.add_argument("file", type=local, help="YAML: out, data, source, training, augment, seed")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="override a setting (repeatable)")
    parser.add_argument("--data-dir", type=local, default=Path("data"), metavar="DIR", help="folder of the data sets")
    parser.add_argument("--no-download", action="store_true", help="fail where a data set is not there")
    parser.add_argument("--force", action="store_true", help="train anew, whatever is there")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from l2t_ray.ledger.ledger import Ledger
    from l2t_ray.sweepfile.source_file import fetch_images, missing_starts, read_pretraining

    data_dir, force, download = arguments.data_dir, arguments.force, not arguments.no_download
    settings = read_pretraining(arguments.file, overrides=arguments.set, data_dir=data_dir)
    if not Path(settings.out).is_file() and fetch_images(arguments.file, settings, download=download):
        settings = read_pretraining(arguments.file, overrides=arguments.set, data_dir=data_dir)
    out, ledger = Path(settings.out), Ledger(EXPERIMENT)  # now: a wrong address must not cost a training
    starts = missing_starts(arguments.file, settings)
    from l2t_ray.launch.worker.source import pretrain
    from l2t_ray.training.model_card import result_line

    try:
        for file in starts.values():
            fetch_images(file, read_pretraining(file, data_dir=data_dir), download=download)
            start = read_pretraining(file, data_dir=data_dir)
            card, is_new = pretrain(start, data_dir, download=download)
            _track(ledger, start, card, is_new=is_new)
        if starts:  # their content is known now
            settings = read_pretraining(arguments.file, overrides=arguments.set, data_dir=data_dir)
        card, is_new = pretrain(settings, data_dir, download=download, force=force)
    except KeyboardInterrupt:
        is_begun = force and not out.exists()  # --force would start from the beginning
        print(f"interrupted; launch again{' without --force' if is_begun else ''} to go on", file=sys.stderr)
        return 1
    _track(ledger, settings, card, is_new=is_new)
    print(result_line(out, card))
    return 0


def _track(ledger: "Ledger", settings: "Pretraining", card: "Card", *, is_new: bool) -> None:
    """Tells the ledger, and what an earlier launch of this command could not tell it."""
    from l2t_ray.launch.worker.source import as_record

    if is_new:
        ledger.spool.put(as_record(settings, card, EXPERIMENT))
    if not len(ledger.spool):
        return
    try:
        with ledger.writing():
            ledger.flush()
    except (InputError, LedgerUnavailableError) as error:
        told = f"{error}; the weights are written, their entry waits in {ledger.spool.folder} for the next launch"
        print(told, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
