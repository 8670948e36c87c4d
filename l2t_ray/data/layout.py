"""Which files of an image folder are images of which class, to train on or to test with; no content is read.

A folder without `test/` is split by `data.test_fraction`: of each class, the names with the smallest hashes are the
test set. The split depends on the names alone, so all runs of all seeds are tested with the same images.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from l2t_ray.data.archive import SPLITS, Archive, refuse
from l2t_ray.data.table import Table, is_table

Files = dict[str, dict[str, str]]  # split -> name -> class
TEST_IS_MISSING = "test/<class>/ must hold images, there are none; add them, or split train/ with data.test_fraction"
TEST_IS_VAL = (
    "test/<class>/ must hold images, there are none, but {val}/; "
    "rename it to test/, add a folder test/, or split train/ with data.test_fraction"
)
VALIDATION = ("val", "valid", "validation", "dev")  # names of a test set elsewhere
TEST_IS_THERE = "data.test_fraction must stand with train/ alone, got test/ too; remove one of them"


def opened(path: Path) -> Archive | Table:
    """Returns an image folder, whether it is a folder, a tar, a zip or a table of files.

    Args:
        path: of it.

    Raises:
        InputError: if it is missing or incomplete, or holds what it must not.
    """
    return Table(path) if is_table(path) else Archive(path, "train")


def files_by_split(archive: Archive | Table, test_fraction: float | None) -> tuple[tuple[str, ...], Files]:
    """Returns the classes, sorted, and the files of `train` and `test`, each with its class.

    Args:
        archive: the image folder.
        test_fraction: of each class of train/, where there is no test/.

    Raises:
        InputError: with a line for every file out of place, empty folder and unknown class.
    """
    found: Files = {}
    misplaced = []
    for split in SPLITS:
        names = [name for name in archive.names if name.startswith(f"{split}/")]
        rule = f"images must be in {split}/<class>/"
        misplaced += [f"{rule}, got '{name}'; move it" for name in names if name.count("/") != 2]
        found[split] = {name: name.split("/")[1] for name in names}
    if not found["train"]:
        misplaced.append("train/<class>/ must hold images, there are none; add them")
    val = validation_folder(archive.names)
    misplaced += split_problems(has_test=bool(found["test"]), test_fraction=test_fraction, val=val)
    refuse(archive.path, misplaced)
    refuse(archive.path, [problem for split in SPLITS for problem in empty_folders(archive, split, found[split])])
    classes = tuple(sorted(set(found["train"].values())))
    if len(classes) == 1:
        refuse(archive.path, [f"there must be two classes or more, got {classes[0]!r} alone; add the others"])
    unknown = sorted(set(found["test"].values()) - set(classes))
    refuse(archive.path, [_unknown_class(name, classes) for name in unknown])
    return classes, found if test_fraction is None else _split(found["train"], test_fraction)


def split_problems(*, has_test: bool, test_fraction: float | None, val: str = "") -> list[str]:
    """Returns the problem of a folder without test images, or with two kinds of them; an empty list if there is none.

    Args:
        has_test: whether there are images in test/.
        test_fraction: the setting.
        val: the folder that may be the test set under another name, if there is one.
    """
    if has_test:
        return [] if test_fraction is None else [TEST_IS_THERE]
    missing = TEST_IS_VAL.format(val=val) if val else TEST_IS_MISSING
    return [missing] if test_fraction is None else []


def validation_folder(names: Iterable[str]) -> str:
    """Returns the name of a folder that holds a validation set, such as "val"; an empty text if there is none.

    Args:
        names: of files.
    """
    tops = {name.split("/")[0] for name in names if name.count("/") > 1}
    return next((val for val in VALIDATION if val in tops), "")


def n_trained(n_images: Mapping[str, int], test_fraction: float | None) -> dict[str, int]:
    """Returns how many images of each class are left to train on, once the test images are taken.

    Args:
        n_images: of train/, by class.
        test_fraction: of each class; None where there is a test set.
    """
    if test_fraction is None:
        return {**n_images}
    return {title: count - _n_tested(count, test_fraction) for title, count in n_images.items()}


def empty_folders(archive: Archive | Table, split: str, files: Mapping[str, str]) -> list[str]:
    """Returns a problem for each class folder without images.

    Args:
        archive: with its folders.
        split: train or test.
        files: of it, with their classes.
    """
    folders = {name.split("/")[1] for name in archive.folders if name.startswith(f"{split}/")}
    empty = sorted(folders - set(files.values()))
    return [f"a class folder must hold images, {split}/{name} is empty; fill or remove it" for name in empty]


def _split(files: Mapping[str, str], test_fraction: float) -> Files:
    by_class: dict[str, list[str]] = {}
    for name, title in files.items():
        by_class.setdefault(title, []).append(name)
    tested: set[str] = set()
    for names in by_class.values():
        tested |= {*sorted(names, key=_rank)[: _n_tested(len(names), test_fraction)]}
    return {
        "train": {name: title for name, title in files.items() if name not in tested},
        "test": {name: title for name, title in files.items() if name in tested},
    }


def _n_tested(n_images: int, test_fraction: float) -> int:
    """One image at least is for the test, and one at least stays to be trained on; a single one stays."""
    return min(n_images - 1, max(1, round(n_images * test_fraction)))


def _rank(name: str) -> str:
    return hashlib.sha256(f"l2t-ray/test/{name}".encode(errors="surrogateescape")).hexdigest()


def _unknown_class(name: str, classes: tuple[str, ...]) -> str:
    """Returns the problem of a class of test/ that train/ does not have."""
    same = [known for known in classes if known.casefold() == name.casefold()]
    remedy = f"rename it to {same[0]}, as in train/" if same else "add its training images"
    return f"classes of test/ must be in train/ too, got {name}; {remedy}"
