"""What is told beside a set of images: images that are left out, and names that are guessed."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from l2t_ray.data.archive import SPLITS, Archive
from l2t_ray.data.table import Table
from l2t_ray.data.walk import is_hidden
from l2t_ray.errors import count, printable

SUFFIXES = {  # of images, for what is not opened
    *(".avif", ".bmp", ".gif", ".heic", ".jp2", ".jpeg", ".jpg", ".jxl", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tga", ".tif", ".tiff", ".webp"),
}
NOISE = {"__MACOSX", ".ipynb_checkpoints"}  # programs leave it, beside `._*`
N_SHOWN = 8


def notes(archive: Archive | Table) -> list[str]:
    """Returns a line for hidden images, for images beside train/ and test/, and for names in an unknown encoding.

    Args:
        archive: the image folder; a table names its files itself.
    """
    return [] if isinstance(archive, Table) else [*_notes(archive)]


def _notes(archive: Archive) -> Iterator[str]:
    hidden, beside = Counter[str](), Counter[str]()
    for name in archive.left_out():
        parts = name.split("/")
        if PurePosixPath(name).suffix.lower() not in SUFFIXES or any(_is_noise(part) for part in parts):
            continue
        if parts[0] not in SPLITS:
            beside[parts[0]] += len(parts) > 1
        else:
            first = next(depth for depth, part in enumerate(parts, 1) if is_hidden(part))
            hidden["/".join(parts[:first])] += 1
    if hidden:
        rule = "hidden and left out, as their name or their folder's begins with a dot"
        yield f"{_images(hidden)} {rule}: {_shown(hidden)}; rename what belongs to the set"
    if +beside:
        rule = "left out, as only train/ and test/ are read"
        yield f"{_images(beside)} {rule}: {_shown(+beside)}; move what belongs to the set"
    if archive.guessed:
        names = f"{count(len(archive.guessed), 'name')} of this zip in an encoding that it does not tell"
        yield f"{names}, read as cp437: {printable(archive.guessed[0])}; if that looks wrong, pack it with UTF-8 names"


def _is_noise(part: str) -> bool:
    return part in NOISE or part.startswith("._")


def _images(counts: Counter[str]) -> str:
    n_images = counts.total()
    return f"{count(n_images, 'image')} {'is' if n_images == 1 else 'are'}"


def _shown(counts: Counter[str]) -> str:
    shown: Iterable[str] = (f"{printable(name)} ({number})" for name, number in sorted(counts.items())[:N_SHOWN])
    more = f" and {len(counts) - N_SHOWN:,} more" if len(counts) > N_SHOWN else ""
    return ", ".join(shown) + more
