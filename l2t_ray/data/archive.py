"""A folder, tar or zip as a list of files, read in place: extracting nothing, it can write nothing elsewhere."""

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

from l2t_ray.errors import InputError

MAX_DEPTH = 6  # of folders: a link to a folder above would never end
MAX_FILE_BYTES = 1 << 26
MAX_FILES = 10_000_000
BROKEN = (tarfile.TarError, zipfile.BadZipFile, NotImplementedError, zlib.error, lzma.LZMAError, EOFError, OSError)


class Archive:
    """The files under a path, without hidden ones and without a single top folder around them.

    Args:
        path: a folder, a tar (plain or compressed) or a zip.
        marker: the name of a file or folder at the top, or in the top folder.

    Attributes:
        path: the same.
        names: of the files, sorted, with "/" between their parts.
        folders: of all folders, empty ones too where the archive lists them.

    Raises:
        InputError: if it is missing or incomplete, holds suspicious members, or lacks the marker.
    """

    def __init__(self, path: Path, marker: str) -> None:
        self.path, self.marker = path, marker
        self.names: list[str] = []
        self.folders: frozenset[str] = frozenset()
        self._prefix = ""
        self._readers: dict[str, Callable[[], bytes]] = {}
        self._folders: set[str] = set()
        _check_exists(path)
        self._open: Any = None
        try:
            if path.is_dir():
                self._list_folder()
            elif _is_zip(path):
                self._list_zip()
            else:
                self._list_tar()
        except BROKEN as error:
            raise InputError(
                f"{path}: must be a folder, or a whole tar or zip, got: {error}; fetch it again"
            ) from error
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
            raise InputError(f"{self.path}: {name} cannot be read: {error}; fetch it again") from error

    def stored(self) -> list[str]:
        """Returns the names in the order that is fastest to read."""
        return [name.removeprefix(self._prefix) for name in self._readers if name.startswith(self._prefix)]

    def _choose_top(self) -> None:
        every = {*self._readers, *self._folders}
        tops = sorted({name.partition("/")[0] for name in self._folders})
        prefixes = [prefix for prefix in ("", *(f"{top}/" for top in tops)) if prefix + self.marker in every]
        if not prefixes or (prefixes[0] and len(prefixes) > 1):
            there = ", ".join(sorted({name.partition("/")[0] for name in every})[:8]) or "nothing"
            raise InputError(f"{self.path}: must hold {self.marker}, at the top or in one top folder, got {there}")
        self._prefix = prefixes[0]
        self.names = sorted(self.stored())
        inside = (name for name in self._folders if name.startswith(self._prefix))
        self.folders = frozenset(name.removeprefix(self._prefix) for name in inside)

    def _add(self, name: str, kind: str, n_bytes: int, read: Callable[[], bytes]) -> None:
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or "\\" in name:
            raise InputError(f"{self.path}: members must lie inside the archive, got {name!r}; do not trust it")
        parts = [part for part in parts if part not in {"", "."}]
        if not parts or any(_hidden(part) for part in parts):
            return
        name = "/".join(parts)
        if kind not in {"file", "folder"}:
            raise InputError(f"{self.path}: members must be files and folders, {name!r} is {kind}; pack the files")
        if n_bytes > MAX_FILE_BYTES:
            raise InputError(f"{self.path}: files must be <= {MAX_FILE_BYTES} bytes, {name!r} has {n_bytes}")
        if name in self._readers:
            raise InputError(f"{self.path}: a member must be there once, {name!r} is there twice; pack it again")
        if len(self._readers) >= MAX_FILES:
            raise InputError(f"{self.path}: must have at most {MAX_FILES} files, got more; pack the images in parts")
        n_above = len(parts) if kind == "folder" else len(parts) - 1
        self._folders.update("/".join(parts[:depth]) for depth in range(1, n_above + 1))
        if kind == "file":
            self._readers[name] = read

    def _list_folder(self) -> None:
        for name, entry in _walk(self.path):
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
            # tarfile takes a damaged header, and a file that ends between two members, for the end
            assert tar.fileobj is not None
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no end of archive after {len(tar.getmembers())} members")

    def _read_tar(self, info: tarfile.TarInfo) -> bytes:
        with self._open.extractfile(info) as stream:
            content: bytes = stream.read()
            return content

    def _list_zip(self) -> None:
        with zipfile.ZipFile(self.path) as archive:
            for info in archive.infolist():
                kind_bits = stat.S_IFMT(info.external_attr >> 16)  # 0 where the zip was not made on Unix
                kind = "file" if kind_bits in {0, stat.S_IFREG} else "a link or a device"
                read = partial(self._read_zip, info)
                self._add(info.filename, "folder" if info.is_dir() else kind, info.file_size, read)

    def _read_zip(self, info: zipfile.ZipInfo) -> bytes:
        content: bytes = self._open.read(info)
        return content


def _walk(folder: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yields everything in a folder that is not hidden, in order, a folder before its content."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not _hidden(entry.name):
                yield prefix + entry.name, entry
                if entry.is_dir() and depth < MAX_DEPTH:
                    yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", depth + 1)


def _hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


def _is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"PK"


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: data.path must exist, counted from the working folder; correct it")
