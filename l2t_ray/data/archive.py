"""A folder, tar or zip as a list of files, read in place: extracting nothing, it can write nothing elsewhere."""

import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from l2t_ray.data.kinds import identify, read_head
from l2t_ray.data.names import composed, is_fit, twin
from l2t_ray.data.walk import hidden_files, is_hidden, walk
from l2t_ray.errors import InputError, printable

MAX_FILE_BYTES = 1 << 26
MAX_FILES = 10_000_000
MAX_SHOWN = 1000  # problems in a message: every bad file in one go, unless nearly all are bad
SPLITS = ("train", "test")
SYSTEM_FILES = {"desktop.ini", "thumbs.db", "ehthumbs.db"}  # Windows puts them into folders of images
ENCRYPTED, UTF8 = 0x1, 0x800  # flags of a zip's member
BROKEN = (tarfile.TarError, zipfile.BadZipFile, NotImplementedError, zlib.error, lzma.LZMAError, EOFError, OSError)


class Archive:
    """The files under a path, without hidden ones and without a single top folder around them.

    Args:
        path: a folder, a tar (plain or compressed) or a zip.
        marker: the name of a file or folder at the top, or in the top folder.

    Attributes:
        path: the same.
        names: of the files, sorted, in Unicode's composed form (NFC), with "/" between their parts.
        folders: of all folders, empty ones too where the archive lists them.
        guessed: the names of a zip that does not tell their encoding.

    Raises:
        InputError: if it is missing or incomplete, holds suspicious members, or lacks the marker.
    """

    def __init__(self, path: Path, marker: str) -> None:
        self.path, self.marker = path, marker
        self.names: list[str] = []
        self.folders: frozenset[str] = frozenset()
        self.guessed: list[str] = []
        self._prefix = ""
        self._hidden: list[str] = []
        self._readers: dict[str, Callable[[], bytes]] = {}
        self._folders: set[str] = set()
        self._spelled: dict[str, str] = {}  # by composed name: as the archive spells it, where that differs
        self._problems: list[str] = []
        check_exists(path)
        self._open: Any = None
        try:
            if path.is_dir():
                self._list_folder()
            elif _is_zip(path):
                self._list_zip()
            else:
                self._list_tar()
        except UnicodeDecodeError as error:
            rule = "names that a zip calls UTF-8 must be UTF-8"
            raise InputError(f"{path}: {rule}, got {error.object!r}; pack it again") from error
        except BROKEN as error:
            found, remedy = _identify(path, error)
            rule = f"{path}: must be a folder, or a whole tar or zip, got {found}; {remedy}"
            raise InputError([*self._problems, rule]) from error
        refuse(path, self._problems)
        self._choose_top()

    def __enter__(self) -> Self:
        """Opens the files for reading."""
        if self.path.is_file():
            self._open = zipfile.ZipFile(self.path) if _is_zip(self.path) else tarfile.open(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the files."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def read(self, name: str) -> bytes:
        """Returns the bytes of one of `names`, within a `with` block.

        Raises:
            InputError: if it cannot be read.
        """
        try:
            return self._readers[self._prefix + name]()
        except BROKEN as error:
            is_method = isinstance(error, NotImplementedError)  # of compression, newer than Python's
            remedy = "pack it again with another program" if is_method else "fetch it again"
            raise InputError(f"{self.path}: {name} cannot be read: {error}; {remedy}") from error

    def stored(self) -> list[str]:
        """Returns the names in the order that is fastest to read."""
        inside = (name.removeprefix(self._prefix) for name in self._readers if name.startswith(self._prefix))
        return [name for name in inside if not _is_systems(name)]

    def left_out(self) -> Iterator[str]:
        """Yields the names of files that no split has: those beside train/ and test/, and hidden ones in them."""
        for name in (*self._readers, *(hidden_files(self.path) if self.path.is_dir() else self._hidden)):
            parts = name.removeprefix(self._prefix).split("/")
            in_split = name.startswith(self._prefix) and parts[0] in SPLITS
            if in_split == any(map(is_hidden, parts)):
                yield "/".join(parts)

    def shown(self, name: str) -> str:
        """Returns a name for messages."""
        return printable(name)

    def _choose_top(self) -> None:
        every = {*self._readers, *self._folders}
        tops = sorted({name.partition("/")[0] for name in self._folders})
        prefixes = [prefix for prefix in ("", *(f"{top}/" for top in tops)) if prefix + self.marker in every]
        if not prefixes or (prefixes[0] and len(prefixes) > 1):
            there = ", ".join(sorted({name.partition("/")[0] for name in every})[:8]) or "nothing"
            if not every and self.path.is_file() and not read_head(self.path).strip(b"\0"):
                there = "a file of zeros; fetch it again"
            raise InputError(f"{self.path}: must hold {self.marker}, at the top or in one top folder, got {there}")
        self._prefix = prefixes[0]
        self.names = sorted(self.stored())
        inside = (name for name in self._folders if name.startswith(self._prefix))
        self.folders = frozenset(name.removeprefix(self._prefix) for name in inside)
        rule = "a folder's name must be UTF-8 without control characters"
        unfit = sorted(name for name in self.folders if name.split("/")[0] in SPLITS and not is_fit(name))
        refuse(self.path, [f"{rule}, got '{name}'; rename it" for name in unfit])

    def _add(self, name: str, kind: str, n_bytes: int, read: Callable[[], bytes]) -> None:
        parts = name.split("/")
        if name.startswith("/") or ".." in parts:
            raise InputError(f"{self.path}: members must lie inside the archive, got {name!r}; do not trust it")
        if "\\" in name:
            rule = "members must lie inside the archive, their names divided by /"
            raise InputError(f"{self.path}: {rule}, got {name!r}; pack it again, or name the zip from which it came")
        parts = [part for part in parts if part not in {"", "."}]
        if not parts or any(map(is_hidden, parts)):
            self._hidden += ["/".join(parts)] if kind == "file" else []
            return
        spelled, name = "/".join(parts), composed("/".join(parts))
        parts = name.split("/")
        if kind not in {"file", "folder"}:
            self._problems.append(f"members must be files and folders, {name!r} is {kind}; pack the files")
            return
        if n_bytes > MAX_FILE_BYTES:
            raise InputError(f"{self.path}: files must be <= {MAX_FILE_BYTES} bytes, {name!r} has {n_bytes}")
        if not name.isascii() and self._spelled_twice(name, spelled):
            return
        if name in self._readers:
            self._problems.append(f"a member must be there once, {name!r} is there twice; pack it again")
            return
        if len(self._readers) + len(self._problems) >= MAX_FILES:
            raise InputError(f"{self.path}: must have at most {MAX_FILES} files, got more; pack the images in parts")
        n_above = len(parts) if kind == "folder" else len(parts) - 1
        self._folders.update("/".join(parts[:depth]) for depth in range(1, n_above + 1))
        if kind == "file":
            self._readers[name] = read

    def _spelled_twice(self, name: str, spelled: str) -> bool:
        """Whether a name, or a folder above it, looks the same as one that is there in another Unicode form."""
        for above, as_spelled in zip(_steps(name), _steps(spelled), strict=True):
            if above not in self._folders and above not in self._readers:
                if above != as_spelled:
                    self._spelled[above] = as_spelled
            elif (before := self._spelled.get(above, above)) != as_spelled:
                rule = "names must differ in more than their Unicode form"
                problem = f"{rule}, got {as_spelled!a} beside {before!a}; rename or merge them"
                if problem not in self._problems[-1:]:
                    self._problems.append(problem)
                return True
        return False

    def _list_folder(self) -> None:
        for name, entry in walk(self.path):
            if entry.is_dir():
                self._add(name, "folder", 0, bytes)
            elif entry.is_file():
                self._add(name, "file", entry.stat().st_size, Path(entry.path).read_bytes)
            else:
                self._add(name, "a broken link or a device", 0, bytes)

    def _list_tar(self) -> None:
        with tarfile.open(self.path) as tar:
            for info in tar:
                kind = "file" if info.isreg() else "folder" if info.isdir() else "a link or a device"
                self._add(info.name, kind, info.size, partial(self._read_tar, info))
            self._check_end(tar)

    def _check_end(self, tar: tarfile.TarFile) -> None:
        """Refuses a tar that goes on where tarfile has stopped; reads a compressed one to the checksum at its end."""
        # tarfile takes a damaged header, and a file that ends between two members, for the end
        assert tar.fileobj is not None
        n_members = len(tar.getmembers())
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"no end of archive after {n_members} members")
        while block := tar.fileobj.read(1 << 20):
            if block.strip(b"\0"):
                rule = f"a tar must end where it says, after {n_members} members, got more, such as a second tar"
                remedy = "unpack it with `tar --ignore-zeros -xf`, and pack all files again"
                raise InputError(f"{self.path}: {rule}; {remedy}")

    def _read_tar(self, info: tarfile.TarInfo) -> bytes:
        with self._open.extractfile(info) as stream:
            content: bytes = stream.read()
            return content

    def _list_zip(self) -> None:
        with zipfile.ZipFile(self.path) as archive:
            for info in archive.infolist():
                name, is_guessed = _zip_name(info)
                if info.flag_bits & ENCRYPTED:
                    rule = "must be a zip without a password"
                    raise InputError(f"{self.path}: {rule}, {name!r} is encrypted; unpack it, and name the folder")
                if re.match(r"[A-Za-z]:", name):
                    rule = "members must lie inside the archive"
                    raise InputError(f"{self.path}: {rule}, got {name!r} with a drive; do not trust it")
                kind_bits = stat.S_IFMT(info.external_attr >> 16)  # 0 where the zip was not made on Unix
                kind = "file" if kind_bits in {0, stat.S_IFREG} else "a link or a device"
                read = partial(self._read_zip, info)
                self.guessed += [name] if is_guessed else []
                self._add(name, "folder" if name.endswith("/") else kind, info.file_size, read)

    def _read_zip(self, info: zipfile.ZipInfo) -> bytes:
        content: bytes = self._open.read(info)
        return content


def _is_systems(name: str) -> bool:
    """Whether a file in a split is one that the system puts into every folder of images."""
    return name.partition("/")[0] in SPLITS and name.rpartition("/")[2].lower() in SYSTEM_FILES


def _is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"PK"


def _steps(name: str) -> list[str]:
    """Returns the folders above a name, and itself."""
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _zip_name(info: zipfile.ZipInfo) -> tuple[str, bool]:
    """Returns a name with / for Windows' backslashes and in a Mac's untold UTF-8, and whether it is guessed."""
    name, is_guessed = info.filename, False
    if not info.flag_bits & UTF8 and name == info.orig_filename:  # else it is decoded already
        try:
            name = name.encode("cp437").decode()
        except UnicodeError:
            is_guessed = True
    return name.replace("\\", "/"), is_guessed


def _identify(path: Path, error: Exception) -> tuple[str, str]:
    """Returns what a file is that cannot be read as an archive, and a remedy."""
    if path.is_dir() or getattr(error, "errno", None):  # the disk's own words
        return str(error), "fetch it again"
    what, remedy = identify(read_head(path)) or ("a file of another kind", "")
    if what in {"a tar", "a zip"}:
        return f"one that cannot be read: {error}", "fetch it again"
    if "compressed" in what and "zstd" not in what:
        how = "cut short, damaged, or no tar" if isinstance(error, tarfile.TarError) else f"damaged ({error})"
        return f"{what}, which is {'cut short' if isinstance(error, EOFError) else how}", "fetch it again"
    return what, remedy or "name another file"


def check_exists(path: Path) -> None:
    """Refuses a path that leads nowhere.

    Raises:
        InputError: that names the file or folder that looks the same, if there is one.
    """
    if path.exists():
        return
    if found := twin(path):
        rule = f"data.path must be spelled as on the disk, {str(found)!a}"
        raise InputError(f"{path}: {rule}, got another Unicode form, {str(path)!a}; rename one of them")
    raise InputError(f"{path}: data.path must exist, counted from the working folder; correct it")


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Raises the first problems of a folder or archive, and their number, if there are any.

    Raises:
        InputError: with a line for each.
    """
    if not problems:
        return
    shown = [f"{path}: {problem}" for problem in problems[:MAX_SHOWN]]
    if len(problems) > MAX_SHOWN:
        shown.append(f"{path}: {len(problems) - MAX_SHOWN} more, {len(problems)} problems in all")
    raise InputError(shown)
