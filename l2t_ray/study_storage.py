"""Where Optuna keeps the studies: a journal file, which a kill may leave with half a line, or a database."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from l2t_ray.errors import InputError
from l2t_ray.uri import mask

if TYPE_CHECKING:
    from l2t_ray.search_block import Search

STORAGE = "OPTUNA_STORAGE"
JOURNAL = "study.journal"


def storage_address(search: "Search", folder: Path) -> str:
    """Where Optuna keeps the studies.

    Args:
        search: of the sweep file.
        folder: the sweep's.

    Returns:
        A URL or a file: OPTUNA_STORAGE, else what the sweep file says, else a journal in the sweep's folder.
    """
    return os.environ.get(STORAGE) or search.settings.storage or str(folder / JOURNAL)


def open_storage(address: str, *, write: bool) -> Any:
    """Optuna's storage.

    Args:
        address: of `storage_address`.
        write: whether it may be made; then this process is the only launch of the sweep.

    Returns:
        The storage; None where there is none and none may be made.

    Raises:
        InputError: if it cannot be reached.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if "://" in address:
                return optuna.storages.RDBStorage(address)
            if not write and not Path(address).exists():
                return None
            if write:
                Path(address).parent.mkdir(parents=True, exist_ok=True)
                _mend(Path(address))
            return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(address))
    except Exception as error:
        told = mask((str(error).splitlines() or [""])[0])
        law = "search.storage must be a journal file or a database that answers"
        raise InputError(
            f"{mask(address)}: {law}, got {type(error).__name__}: {told}; correct {STORAGE} or the file"
        ) from None


def read_trials(storage: Any, name: str) -> Sequence[Any]:
    """A study's trials as they are stored.

    Args:
        storage: of `open_storage`.
        name: of `study_name`.

    Returns:
        Optuna's frozen trials; none where there is no such study.
    """
    if storage is None:
        return []
    try:
        study = storage.get_study_id_from_name(name)
    except KeyError:
        return []
    found: Sequence[Any] = storage.get_all_trials(study, deepcopy=False)
    return found


def _mend(journal: Path) -> None:
    """Cuts off half a line that a full disk or a killed machine has left: nothing could be added behind it."""
    if journal.exists() and (content := journal.read_bytes()) and not content.endswith(b"\n"):
        with journal.open("r+b") as stream:
            stream.truncate(content.rfind(b"\n") + 1)
