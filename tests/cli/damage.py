"""Files of every format that is read, and what can happen to their bytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy
import tifffile
from hypothesis import strategies as st
from PIL import Image

GRAY = numpy.random.default_rng(0).integers(1, 256, (20, 18)).astype(numpy.uint8)
COLOUR = numpy.random.default_rng(1).integers(1, 256, (20, 18, 3)).astype(numpy.uint8)


def _pillow(array: numpy.ndarray, kind: str, mode: str | None = None, **options: object) -> bytes:
    buffer, image = io.BytesIO(), Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(buffer, kind, **options)
    return buffer.getvalue()


def _frames(kind: str, **options: object) -> bytes:
    frames = [Image.fromarray(array) for array in (COLOUR[::-1], COLOUR[:, ::-1])]
    return _pillow(COLOUR, kind, save_all=True, append_images=frames, **options)


def _tiff(array: numpy.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def _array(array: numpy.ndarray) -> bytes:
    buffer = io.BytesIO()
    numpy.save(buffer, array)
    return buffer.getvalue()


def _archive() -> bytes:
    buffer = io.BytesIO()
    numpy.savez_compressed(buffer, one=GRAY / 255, two=GRAY[::-1] / 255)
    return buffer.getvalue()


STACK = numpy.stack([GRAY, GRAY[::-1]])
FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "PNG of 8 bits": (".png", lambda: _pillow(GRAY, "PNG")),
    "PNG of 16 bits": (".png", lambda: _pillow(GRAY.astype(numpy.uint16) * 257, "PNG")),
    "PNG with palette": (".png", lambda: _pillow(COLOUR, "PNG", "P", transparency=0)),
    "animated PNG": (".png", lambda: _frames("PNG")),
    "TIFF": (".tif", lambda: _tiff(GRAY)),
    "TIFF of floats": (".tif", lambda: _tiff((GRAY / 255).astype(numpy.float32))),
    "packed TIFF": (
        ".tif",
        lambda: _tiff(COLOUR, photometric="rgb", compression="deflate", predictor=True),
    ),
    "tiled TIFF": (".tif", lambda: _tiff(GRAY, tile=(16, 16), compression="lzw")),
    "ImageJ": (".tif", lambda: _tiff(STACK, imagej=True, metadata={"axes": "ZYX"})),
    "OME": (".ome.tif", lambda: _tiff(STACK, ome=True, metadata={"axes": "ZYX"})),
    "JPEG": (".jpg", lambda: _pillow(COLOUR, "JPEG")),
    "progressive JPEG": (".jpg", lambda: _pillow(GRAY, "JPEG", progressive=True)),
    "JPEG of inks": (".jpg", lambda: _pillow(COLOUR, "JPEG", "CMYK")),
    "WebP": (".webp", lambda: _pillow(COLOUR, "WEBP")),
    "animated WebP": (".webp", lambda: _frames("WEBP", lossless=True)),
    "BMP": (".bmp", lambda: _pillow(COLOUR, "BMP")),
    "NPY": (".npy", lambda: _array(GRAY / 255)),
    "NPZ": (".npz", _archive),
}


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut off anywhere, some bits turned, bytes put in, taken out or repeated; or nothing at all."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(changed) - 1, 0)))
        # headers are at the beginning
        place = min(place, draw(st.sampled_from([40, 200, len(changed)])))
        match draw(st.sampled_from(["cut", "bits", "bits", "number", "insert", "remove"])):
            case "cut":
                del changed[place:]
            case "bits":
                for at in draw(st.lists(st.integers(0, 63), max_size=8)):
                    if place + at < len(changed):
                        changed[place + at] ^= 1 << draw(st.integers(0, 7))
            case "number":
                number = draw(st.sampled_from([0, 1, 2**15, 2**31 - 1, 2**32 - 1, 10**5]))
                order = draw(st.sampled_from("<>"))
                changed[place : place + 4] = struct.pack(order + "I", number)
            case "insert":
                changed[place:place] = draw(st.binary(max_size=20))
            case "remove":
                del changed[place : place + draw(st.integers(1, 40))]
    return bytes(changed)


def claiming_png(height: int, width: int, bits: int = 8) -> bytes:
    """A PNG whose header says that size, with next to no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def claiming_tiff(height: int, width: int, compression: int, samples: int = 1) -> bytes:
    """A TIFF of one strip whose directory says that size."""
    pixels = zlib.compress(bytes(1000))
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, compression), (262, 3, 1),
        (273, 4, 8), (277, 3, samples), (278, 4, height), (279, 4, len(pixels)),
    ]  # fmt: skip
    directory = b"".join(
        struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value) for tag, kind, value in entries
    )
    start = 8 + len(pixels) + len(pixels) % 2
    head = b"II*\0" + struct.pack("<I", start) + pixels + b"\0" * (len(pixels) % 2)
    return head + struct.pack("<H", len(entries)) + directory + bytes(4)


def claiming_array(*shape: int) -> bytes:
    """An NPY file whose header says that shape."""
    buffer = io.BytesIO()
    numpy.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue() + bytes(1000)
