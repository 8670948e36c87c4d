"""What a file is by its first bytes, whatever its name says."""

import re
from pathlib import Path

_HEAD_BYTES = 1024
_JSON = re.compile(r"""\{\s*["}]|\{$|\[\s*(["\[{\]\d-]|true|false|null)""")  # else a [section] of settings, or code
_KINDS = (  # first bytes, what they begin, remedy
    (b"version https://git-lfs", "a Git LFS pointer", "run git lfs pull"),
    (b"\x1f\x8b", "a file compressed with gzip", "unpack it with gunzip"),
    (b"BZh", "a file compressed with bzip2", "unpack it with bunzip2"),
    (b"\xfd7zXZ\0", "a file compressed with xz", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "a file compressed with zstd", "unpack it with unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"PK\3\4", "a zip", "unpack it"),
    (b"PK\5\6", "an empty zip", "fetch it again"),
    (b"\x89HDF", "an HDF5 file, as Keras and MATLAB write it", "convert it"),
    (b"\x93NUMPY", "a NumPy array", "convert it"),
    (b"\x89PNG", "a PNG image", ""),
    (b"\xff\xd8\xff", "a JPEG image", ""),
    (b"GIF8", "a GIF image", ""),
    (b"%PDF", "a PDF", ""),
    (b"PAR1", "a Parquet table", "convert it"),
    (b"GGUF", "a GGUF file", "convert it"),
    (b"SQLite format 3", "an SQLite database", ""),
    (b"\xd0\xcf\x11\xe0", "a file of Microsoft Office or Windows", ""),
    (b"\x7fELF", "a program", ""),
)


def identify(head: bytes) -> tuple[str, str] | None:
    """Returns what a file is by its first bytes, such as ("a Git LFS pointer", "run git lfs pull"); None if unknown.

    Args:
        head: the first 1,024 bytes, or all if there are fewer.

    Returns:
        What it is, and a remedy, empty where the place of use knows it better.
    """
    if not head:
        return "an empty file", "fetch it again"
    for magic, what, remedy in _KINDS:
        if head.startswith(magic):
            return what, remedy
    if head[257:262] == b"ustar":
        return "a tar", "unpack it"
    if head[128:132] == b"DICM":
        return "a DICOM file", "convert it to PNG"
    if head[4:8] == b"ftyp" and b"avi" in head[8 : int.from_bytes(head[:4], "big")]:
        return "an AVIF image", ""
    if head[4:8] == b"ftyp":
        return "a HEIC or AVIF image, or a video", "convert it to PNG or JPEG"
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 32:
        return "a safetensors file", "read it with safetensors.torch.load_file, and write that with torch.save"
    if not head.strip(b"\0"):
        return "a file of zeros", "fetch it again"
    return _identify_text(head)


def _identify_text(head: bytes) -> tuple[str, str] | None:
    try:
        # a character may be cut at the end
        text = head[:-3].decode("utf-8-sig") if len(head) >= _HEAD_BYTES else head.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if any(character < " " and character not in "\t\n\r\f\x1b" for character in text):
        return None
    start = text.lstrip().lower()
    if start.startswith("<") and any(tag in start for tag in ("<html", "<!doctype html", "<head", "<body", "<script")):
        return "a web page (HTML)", "download it again"
    if start.startswith("<") and "<svg" in start:
        return "an SVG drawing", "convert it to PNG"
    if start.startswith("<"):
        return "an XML text, such as a server's error", "download it again"
    if _JSON.match(start):
        return "a JSON text, such as a server's reply", "download it again"
    if "/annex/objects/" in start:
        return "a git-annex pointer", "run git annex get"
    return f"a text that begins with {' '.join(text.split())[:40]!r}", "fetch it again"


def read_head(path: Path) -> bytes:
    """Returns the first bytes of a file, for `identify`."""
    with path.open("rb") as stream:
        return stream.read(_HEAD_BYTES)
