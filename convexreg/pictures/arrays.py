"""NumPy's files: one array (NPY) or several by name (NPZ), each a picture or a stack of them."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy

from convexreg.pictures.memory import check_memory
from convexreg.pictures.photograph import ImageError, Photograph
from convexreg.pictures.samples import Samples, stored

_MOST_CHANNELS = 4


class ArrayPictures:
    """The pictures in an NPY or NPZ file, in the order of the arrays and along their first axes.

    The last axis of an array holds channels if it has at most four entries; three are red, green and blue.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.archive = path.suffix.lower() == ".npz"
        self.pictures: list[tuple[str, int]] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._opened: tuple[str, numpy.ndarray] | None = None
        for name in self._names():
            self.shapes[name] = self._stack_shape(self._shape(name))
            self.pictures += [(name, i) for i in range(int(numpy.prod(self.shapes[name])))]

    def __len__(self) -> int:
        return len(self.pictures)

    def describe(self) -> str:
        arrays = f" in {len(self.shapes)} arrays" if len(self.shapes) > 1 else ""
        threes = any(shape[-1:] == (3,) for shape in self.shapes.values())
        colour = (
            ", of which three may be a colour picture whose channels go to the end"
            if threes
            else ""
        )
        return f"{len(self)} pictures{arrays}{colour}"

    def samples(self, index: int) -> Samples:
        name, place = self.pictures[index]
        array, leading = self._array(name), self.shapes[name]
        if leading:
            array = array.reshape(-1, *array.shape[len(leading) :])[place]
        elif array.ndim == 3 and array.shape[0] == 1:
            array = array[0]
        return Samples(array, colour=array.ndim == 3 and array.shape[-1] == 3)

    def close(self) -> None:
        self._opened = None

    def _names(self) -> list[str]:
        if not self.archive:
            return [""]
        with zipfile.ZipFile(self.path) as archive:
            names = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
        if not names:
            raise ImageError(f"{self.path} holds no arrays")
        return names

    def _shape(self, name: str) -> tuple[int, ...]:
        """As the header of an array says it, which is only believed if there is memory for it."""
        if self.archive:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
                shape = _header(file)
        else:
            with self.path.open("rb") as file:
                shape = _header(file)
        check_memory(self.path, math.prod(shape))
        return shape

    def _array(self, name: str) -> numpy.ndarray:
        """One of them at a time is in memory; that of an NPY file is mapped."""
        if self._opened is None or self._opened[0] != name:
            if self.archive:
                with numpy.load(self.path, allow_pickle=False) as arrays:
                    self._opened = name, arrays[name]
            else:
                self._opened = name, mapped(self.path)
        return self._opened[1]

    def _stack_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The axes that count pictures."""
        channels = len(shape) > 2 and shape[-1] <= _MOST_CHANNELS
        leading = shape[: -3 if channels else -2]
        if len(shape) < 2 or 0 in shape or len(leading) > 3:
            raise ImageError(
                f"{self.path} has shape {shape}; an image is (H, W) or (H, W, C) with 1 to "
                f"{_MOST_CHANNELS} channels, a stack has axes in front"
            )
        if len(shape) == 3 and not channels and 2 * shape[-1] <= min(shape[:2]):
            raise ImageError(
                f"{self.path} has shape {shape}; if its last axis holds bands, move it to the front"
            )
        return () if leading == (1,) and not channels else leading


def mapped(path: Path) -> numpy.ndarray:
    """The array in an NPY file, read where it is looked at.

    :raises ValueError: no array of numbers, or less than its header claims.
    """
    with path.open("rb") as file:
        shape = _header(file)
    return numpy.empty(shape) if 0 in shape else numpy.lib.format.open_memmap(path, mode="r")


def _header(file: IO[bytes]) -> tuple[int, ...]:
    """The shape of an array.

    :raises ValueError: no array of numbers.
    """
    version = numpy.lib.format.read_magic(file)
    read = (
        numpy.lib.format.read_array_header_1_0
        if version == (1, 0)
        else numpy.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape


def array_of(photograph: Photograph) -> numpy.ndarray:
    """In float32, on the scale of its white; transparency is the last channel."""
    return stored(photograph, numpy.dtype("float32"), premultiplied=False)


def write_arrays(
    path: Path,
    photographs: Iterable[Photograph],
    shapes: dict[str, tuple[int, ...]] | None = None,
    *,
    archive: bool,
) -> None:
    """An NPY file, or an archive of them (NPZ).

    :param shapes: of the stacks in the file that the pictures come from, by name; without them they are one.
    """
    results = (array_of(photograph) for photograph in photographs)
    if not archive:
        arrays = list(results)
        leading = (shapes or {}).get("", () if len(arrays) == 1 else (len(arrays),))
        array = _stack(arrays).reshape(*leading, *arrays[0].shape)
        with path.open("wb") as file:
            numpy.save(file, array, allow_pickle=False)
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in _named(results, shapes):
            buffer = io.BytesIO()
            numpy.save(buffer, array, allow_pickle=False)
            file.writestr(f"{name}.npy", buffer.getvalue())


def _named(
    results: Iterator[numpy.ndarray], shapes: dict[str, tuple[int, ...]] | None
) -> Iterator[tuple[str, numpy.ndarray]]:
    if shapes is None:
        for number, array in enumerate(results):
            yield f"arr_{number}", array
        return
    for name, leading in shapes.items():
        arrays = [next(results) for _ in range(int(numpy.prod(leading)))]
        yield name or "arr_0", _stack(arrays).reshape(*leading, *arrays[0].shape)


def _stack(arrays: list[numpy.ndarray]) -> numpy.ndarray:
    if len({array.shape for array in arrays}) > 1:
        raise ImageError("pictures of several sizes are no array; use .npz or .tif")
    return numpy.stack(arrays)
