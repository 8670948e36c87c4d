"""What tests of images share: images of every kind as bytes, and the pixels that are read from them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from l2t_ray.data.images import decode

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)  # every value of 16 bits
IN_8_BITS = np.round(RAMP / 257).astype(np.uint8)  # 65535 = 257 * 255


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(content):
    return decode(content, 1 << 26)[0]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def written_png(values, kind, more=b""):
    """A PNG of 16 bits a channel, which Pillow does not write in colour; kind 0 grey, 2 RGB, 4 grey and alpha."""
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def written_tiff(values, *, bits, photometric=1, planes=1, sample_format=1, order="<"):
    """A plain TIFF (TIFF 6.0, part 1), as scientific software writes it and Pillow does not."""
    content = values.tobytes()
    n_channels = 1 if values.ndim == 2 else min(values.shape)
    height, width = [size for size in values.shape if size > 4]
    n_strips = n_channels if planes == 2 else 1
    entries = {256: [width], 257: [height], 258: [bits] * n_channels, 259: [1], 262: [photometric]}
    entries |= {273: [8 + i * len(content) // n_strips for i in range(n_strips)], 277: [n_channels], 278: [height]}
    entries |= {279: [len(content) // n_strips] * n_strips, 284: [planes], 339: [sample_format] * n_channels}
    start = 8 + len(content)
    more_at, more, lines = start + 2 + 12 * len(entries) + 4, b"", b""
    for tag, numbers in entries.items():
        value = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(value) > 4:
            value, more = struct.pack(f"{order}I", more_at + len(more)), more + value
        lines += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + value
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, start)
    return head + content + struct.pack(f"{order}H", len(entries)) + lines + bytes(4) + more


DEEP = {
    "png": saved(Image.fromarray(RAMP), "PNG"),
    "tiff": saved(Image.fromarray(RAMP), "TIFF"),
    "tiff-lzw": saved(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"),
    "pgm": saved(Image.fromarray(RAMP), "PPM"),
    "jpeg2000": saved(Image.fromarray(RAMP), "JPEG2000"),
    "tiff-big-endian": written_tiff(RAMP.astype(">u2"), bits=16, order=">"),
    "tiff-white-is-0": written_tiff((65535 - RAMP).astype("<u2"), bits=16, photometric=0),
}


def noise(n_channels):
    return np.random.default_rng(0).integers(0, 256, (33, 47, n_channels), dtype=np.uint8)


COLOURS = Image.fromarray(noise(3))
OPAQUE = COLOURS.copy()
AS_BEFORE = {
    "rgb-png": saved(COLOURS, "PNG"),
    "rgb-jpeg": saved(COLOURS, "JPEG"),
    "grey-png": saved(COLOURS.convert("L"), "PNG"),
    "grey-jpeg": saved(COLOURS.convert("L"), "JPEG"),
    "palette-png": saved(COLOURS.quantize(200), "PNG"),
    "palette-4-bits": saved(COLOURS.quantize(9), "PNG"),
    "palette-gif": saved(COLOURS.quantize(256), "GIF"),
    "1-bit-png": saved(COLOURS.convert("1"), "PNG"),
    "1-bit-tiff": saved(COLOURS.convert("1"), "TIFF", compression="group4"),
    "cmyk-jpeg": saved(COLOURS.convert("CMYK"), "JPEG"),
    "ycbcr-tiff": saved(COLOURS.convert("YCbCr"), "TIFF"),
    "opaque-png": saved(OPAQUE, "PNG"),
    "webp": saved(COLOURS, "WEBP"),
    "bmp": saved(COLOURS, "BMP"),
    "lab-tiff": written_tiff(noise(3), bits=8, photometric=8),
    "tiff-lzw": saved(COLOURS, "TIFF", compression="tiff_lzw"),
}
