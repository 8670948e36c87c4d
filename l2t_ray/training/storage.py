"""Where checkpoints are stored: a folder that all machines see, or an object store (`s3://`, `gs://`) through pyarrow.

`Remote` has the methods of pathlib's `Path` that a checkpoint needs, so that one code serves both. Credentials come
from the environment or the machine's role, never from the address.
"""

import functools
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from l2t_ray.errors import InputError
from l2t_ray.files import write_atomic

SCHEMES = ("s3", "gs")


@dataclass(frozen=True)
class Remote:
    """A file in an object store, or the prefix that the names of a folder's files share."""

    address: str  # of the store's root: scheme, bucket, options (`s3://bucket?region=eu-central-1`)
    place: PurePosixPath  # bucket and name, as the store knows them

    def __truediv__(self, name: str) -> "Remote":
        return Remote(self.address, self.place / name)

    def __str__(self) -> str:
        return f"{urlsplit(self.address).scheme}://{self.place}"

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.place.name

    def with_name(self, name: str) -> "Remote":
        """Returns the file of that name beside this one; it may not exist."""
        return Remote(self.address, self.place.with_name(name))

    def read_bytes(self) -> bytes:
        """Returns the file's content."""
        with self._store.open_input_file(str(self.place)) as stream:
            content: bytes = stream.read()
            return content

    def write_bytes(self, content: bytes) -> None:
        """Writes a whole object, durable when this returns; readers see the old one or the new."""
        with self._store.open_output_stream(str(self.place)) as stream:
            stream.write(content)

    def copy_to(self, name: str) -> None:
        """Copies this file over the one of another name beside it, within the store.

        Args:
            name: the other's last part.

        Raises:
            FileNotFoundError: if this file does not exist.
        """
        if not self._store.get_file_info(str(self.place)).is_file:
            raise FileNotFoundError(str(self))
        self._store.copy_file(str(self.place), str(self.place.with_name(name)))

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Removes the file.

        Args:
            missing_ok: whether it may be missing.

        Raises:
            FileNotFoundError: if it is missing, and may not be.
        """
        try:
            self._store.delete_file(str(self.place))
        except FileNotFoundError:
            if not missing_ok:
                raise

    @property
    def _store(self) -> Any:
        return _store(self.address)


File: TypeAlias = Path | Remote


def storage(text: str) -> File:
    """Returns the folder that `execution.storage` names.

    Args:
        text: a folder from the working folder, `s3://bucket/prefix` or `gs://bucket/prefix`, with pyarrow's options
            after a question mark.

    Returns:
        A local folder as an absolute path, or a `Remote`.

    Raises:
        InputError: if it has another scheme, no bucket, or credentials.
    """
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Path(text).resolve()
    parts = urlsplit(text)
    rule = "execution.storage must be a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
    if scheme not in SCHEMES:
        raise InputError(f"{rule}, got the scheme {scheme!r}; mount it, or use one of these")
    if "@" in parts.netloc or "secret" in parts.query.lower():
        raise InputError(f"{rule} without a password; give it by the environment (AWS_ACCESS_KEY_ID, ...) or a role")
    if not parts.netloc:
        raise InputError(f"{rule}, got no bucket; name one")
    query = f"?{parts.query}" if parts.query else ""
    place = Remote(f"{scheme}://{parts.netloc}{query}", PurePosixPath(parts.netloc + parts.path))
    try:
        _store(place.address)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{rule}, got options that pyarrow does not take: {reason}; correct them") from error
    except OSError as error:  # pyarrow asks the store for the bucket's region
        reason = str(error).splitlines()[0]
        raise InputError(f"{rule}, got none that answers: {reason}; name its ?region=, or check the network") from error
    return place


def address(place: File) -> str:
    """Returns the text from which `storage` makes the same place on another machine."""
    if isinstance(place, Path):
        return str(place)
    _, question, options = place.address.partition("?")
    return f"{place}{question}{options}"


def files(folder: File) -> list[File]:
    """Returns the files directly in a folder, in no order; none where the folder is missing."""
    if isinstance(folder, Path):
        return [path for path in folder.glob("*") if path.is_file()]
    from pyarrow.fs import FileSelector

    infos = _store(folder.address).get_file_info(FileSelector(str(folder.place), allow_not_found=True))
    return [folder / info.base_name for info in infos if info.is_file]


def keep_as(file: File, name: str) -> None:
    """Moves a file to another name beside it, replacing that one; in an object store copies it instead."""
    if isinstance(file, Path):
        file.replace(file.with_name(name))
    else:
        file.copy_to(name)


def write_whole(file: File, content: bytes) -> None:
    """Writes a file so that a reader sees the old content or the new, and a power cut destroys neither."""
    if isinstance(file, Path):
        write_atomic(file, content)
    else:
        file.write_bytes(content)


@functools.cache
def _store(address: str) -> Any:
    from pyarrow.fs import FileSystem

    store, _ = FileSystem.from_uri(address)
    return store
