"""Fetches a published file: with progress, on from where an earlier attempt stopped, and never without its digest."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from l2t_ray import errors
from l2t_ray.errors import InputError, duration
from l2t_ray.files import alone
from l2t_ray.published import Published

CHUNK_BYTES, MIB = 1 << 18, 1 << 20
TIMEOUT_S, LINE_S, PAUSE_S = 60.0, 10.0, 2.0
TRIES = 3
RANGE_REFUSED = 416
SHA256_DIGITS = 64
Say = Callable[[str], None]


class _BrokenOffError(Exception):
    """The server or the network stopped; what has come is kept."""


def fetch(item: Published, path: Path, *, download: bool = True, say: Say = errors.say) -> None:
    """Fetches a file, unless it is there.

    Args:
        item: what, from where, and its digest.
        path: where it belongs; `NAME.part` beside it keeps what has come so far.
        download: whether it may be fetched.
        say: receives lines of progress.

    Raises:
        InputError: if it may not be fetched, cannot be, or is another file.
        OSError: if the disk is full or not writable.
    """
    if path.is_file():
        return
    if not download:
        remedy = f"allow the download (leave out --no-download), or put {item.address} there"
        raise InputError(f"{path}: must hold {item.what}, got no file; {remedy}")
    part = path.with_name(f"{path.name}.part")
    with alone(path):
        if path.is_file():  # another process has fetched it meanwhile
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        say(f"{path}: fetching {item.what}, {item.n_bytes / MIB:,.1f} MiB, from {item.address} ({item.licence})")
        if item.client is not None:
            (_by_torch if item.client == "torch.hub" else _by_hugging_face)(item, path)
            return
        for n_left in reversed(range(TRIES)):
            try:
                _download(item, part, say)
                break
            except _BrokenOffError as error:
                if not n_left:
                    n_there = part.stat().st_size if part.exists() else 0
                    kept = f"; launching again goes on after {n_there / MIB:,.1f} MiB" if n_there else ""
                    rule = f"{item.address}: must answer, so that {item.what} can be fetched, got {error}"
                    remedy = f"connect this machine, or put the file at {path} and launch with --no-download"
                    raise InputError(f"{rule}; {remedy}{kept}") from error
                time.sleep(PAUSE_S)
        algorithm, _, digits = item.digest.partition(":")
        if (found := _digest(part, algorithm)) != digits:
            part.unlink()
            rule = f"{item.address}: must be {item.what} with {algorithm} {digits}, got {found}"
            raise InputError(f"{rule}; find the file elsewhere and put it at {path}")
        part.replace(path)


def _by_torch(item: Published, path: Path) -> None:
    """Lets torch.hub fetch a file of torchvision, and check the digits of its SHA-256."""
    from torch import hub

    algorithm, _, digits = item.digest.partition(":")
    rule = f"{item.address}: must answer, so that {item.what} can be fetched"
    remedy = f"connect this machine, or put the file at {path} and launch with --no-download"
    try:
        hub.download_url_to_file(item.address, str(path), digits, progress=False)
    except urllib.error.HTTPError as error:
        error.close()
        raise InputError(f"{rule}, got HTTP {error.code} {error.reason}; {remedy}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise InputError(f"{rule}, got {_told(error)}; {remedy}") from error
    except RuntimeError as error:  # torch.hub's for another digest
        rule = f"{item.address}: must be {item.what} with {algorithm} {digits}..., got another file or a part of it"
        raise InputError(f"{rule}; launch again, or find the file elsewhere and put it at {path}") from error


def _by_hugging_face(item: Published, path: Path) -> None:
    """Lets huggingface_hub fetch a file into its cache, where other programs find it too, and names it at `path`."""
    from huggingface_hub import errors as hub_errors
    from huggingface_hub import hf_hub_download

    repository, _, file = item.address.rpartition("/")
    try:
        cached = Path(hf_hub_download(repository, file, revision=item.revision)).resolve()
    except (hub_errors.HfHubHTTPError, hub_errors.LocalEntryNotFoundError, OSError) as error:
        rule = f"{item.address}: must be had from the Hugging Face hub, got {type(error).__name__}"
        raise InputError(f"{rule}; connect this machine, or put {item.what} at {path}") from error
    if len(cached.name) == SHA256_DIGITS and (found := _digest(cached, "sha256")) != cached.name:
        cached.unlink()
        raise InputError(f"{item.address}: must have the hub's sha256 {cached.name}, got {found}; launch again")
    path.unlink(missing_ok=True)  # a link into a cache that was emptied
    path.symlink_to(cached)


def _download(item: Published, part: Path, say: Say) -> None:
    """Adds to `part` what it lacks."""
    n_there = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(item.address, headers={"User-Agent": "l2t-ray"})
    if n_there:
        request.add_header("Range", f"bytes={n_there}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == RANGE_REFUSED:  # it is whole, or more than that: the digest decides
            return
        raise _BrokenOffError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(_told(error)) from error
    with response:
        goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
        n_done = n_there if goes_on else 0  # a server without ranges begins anew
        length = response.headers.get("Content-Length")
        n_total = n_done + int(length) if length and length.isdecimal() else item.n_bytes
        begun_s, n_before, line_at = time.monotonic(), n_done, time.monotonic() + LINE_S
        with part.open("ab" if goes_on else "wb") as stream:
            while True:
                try:
                    chunk = response.read(CHUNK_BYTES)
                except (OSError, http.client.HTTPException) as error:
                    raise _BrokenOffError(_told(error)) from error
                if not chunk:
                    break
                stream.write(chunk)
                n_done += len(chunk)
                if (now := time.monotonic()) >= line_at:
                    line_at = now + LINE_S
                    left_s = (n_total - n_done) * (now - begun_s) / max(1, n_done - n_before)
                    say(f"{part.stem}: {n_done / MIB:,.0f} of {n_total / MIB:,.0f} MiB, {duration(left_s)} left")
    if n_done < n_total:
        raise _BrokenOffError(f"{n_done:,} of {n_total:,} bytes")


def _told(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return getattr(reason, "strerror", None) or str(reason) or type(error).__name__


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
