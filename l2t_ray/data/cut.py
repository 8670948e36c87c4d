"""Images that are cut short, told by the structure of their files."""

import struct

_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes, by TIFF's types
_PARTS = ((273, 279), (324, 325))  # TIFF's tags: offsets and sizes of strips, and of tiles
_LETTERS = {3: "H", 4: "I", 16: "Q"}  # struct's, by TIFF's types of offsets


def ends_early(content: bytes) -> bool:
    """Whether a file ends before what Pillow needs, or would replace: a TIFF's directory, a JPEG's end.

    A JPEG of which a part was fetched into a file of the whole size ends in zeros, which decode to wrong rows.

    Args:
        content: of the file, which may be no image.

    Returns:
        False for another kind of file.
    """
    if content.startswith(b"\xff\xd8\xff"):
        return content.endswith(b"\0") and not _has_end(content)
    return _is_tiff(content) and _directory(content)[0] + 2 > len(content)


def lacks_bytes(content: bytes) -> bool:
    """Whether a file that cannot be decoded, a TIFF, AVIF or WebP, names more bytes than it has.

    Args:
        content: of the file, which may be no image.

    Returns:
        False for another kind of file.
    """
    if _is_tiff(content):
        try:
            return _tiff_lacks(content)
        except struct.error:
            return True
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return 8 + int.from_bytes(content[4:8], "little") > len(content)
    return content[4:8] == b"ftyp" and _boxes_lack(content)


def _has_end(content: bytes) -> bool:
    """Whether a JPEG's marker of the end is behind its first scan, thus not a thumbnail's (ITU T.81, B.1.1)."""
    at, scanned = 2, False
    while (at := content.find(b"\xff", at)) >= 0 and at + 1 < len(content):
        marker = content[at + 1]
        if marker == 0xD9 and scanned:
            return True
        if marker == 0xFF:  # a byte to fill up
            at += 1
        elif marker <= 1 or 0xD0 <= marker <= 0xD9:  # no length behind it
            at += 2
        else:
            scanned |= marker == 0xDA
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return False


def _is_tiff(content: bytes) -> bool:
    return content[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def _directory(content: bytes) -> tuple[int, str, str]:
    """Returns where a TIFF's first directory is, and struct's letters of its order and offsets."""
    order, letter = "<" if content[:2] == b"II" else ">", "Q" if b"+" in content[2:4] else "I"
    at = 8 if letter == "Q" else 4
    n_bytes = struct.calcsize(order + letter)
    return int.from_bytes(content[at : at + n_bytes], "little" if order == "<" else "big"), order, letter


def _tiff_lacks(content: bytes) -> bool:
    start, order, letter = _directory(content)
    head = order + ("Q" if letter == "Q" else "H")
    (n_entries,) = struct.unpack_from(head, content, start)
    entry, room = struct.Struct(f"{order}HH{letter}"), struct.calcsize(order + letter)
    parts: dict[int, tuple[int, ...]] = {}
    for index in range(n_entries):
        at = start + struct.calcsize(head) + index * (entry.size + room)
        tag, kind, count = entry.unpack_from(content, at)
        value_at = at + entry.size
        if count * _SIZES.get(kind, 1) > room:
            (value_at,) = struct.unpack_from(order + letter, content, value_at)
        if value_at + count * _SIZES.get(kind, 1) > len(content):
            return True
        if kind in _LETTERS and tag in {*_PARTS[0], *_PARTS[1]}:
            parts[tag] = struct.unpack_from(f"{order}{count}{_LETTERS[kind]}", content, value_at)
    ends = [map(sum, zip(parts.get(at, ()), parts.get(size, ()), strict=False)) for at, size in _PARTS]
    return n_entries == 0 or any(end > len(content) for some in ends for end in some)


def _boxes_lack(content: bytes) -> bool:
    """Whether the last box of an ISO base media file (ISO 14496-12, 4.2) is longer than the file."""
    at = 0
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        size = int.from_bytes(content[at + 8 : at + 16], "big") if size == 1 else size
        if size < 8:  # 0: to the end of the file
            return False
        at += size
    return at != len(content)
