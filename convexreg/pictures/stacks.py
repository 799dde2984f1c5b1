"""TIFF files with their pictures: pages, ImageJ's and OME's stacks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy
import tifffile

from convexreg.pictures.exif import exif_of_tiff
from convexreg.pictures.memory import check_memory
from convexreg.pictures.photograph import ImageError, Tags
from convexreg.pictures.samples import Samples
from convexreg.pictures.tiff import check_decodable, samples_of
from convexreg.pictures.tiff_writing import Layout

_MOST_CHANNELS = 4
_MICROMETRES = {"nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25400.0}


@dataclass(frozen=True)
class _Picture:
    """Number `place` of a series; `whole` if the series is one picture whose rows were taken for pages."""

    series: tifffile.TiffPageSeries
    place: int
    whole: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.series.shape if self.whole else self.series.keyframe.shape


class TiffPictures:
    """The pictures of a TIFF file: every page, slice, channel or time that is no thumbnail, mask or copy of
    lower resolution."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = tifffile.TiffFile(path)
        try:
            series = [s for s in self.file.series if _is_picture(s)]
            _check_count(series, path)
            self.series = [s for s in series if not any(_is_reduced(s, other) for other in series)]
            self.pictures = [picture for s in self.series for picture in _pictures(s)]
            if not self.pictures:
                raise ImageError(f"{path} holds no pictures")
            if all(s.kind == "generic" for s in self.series):
                self.pictures.sort(key=_place_in_file)
        except BaseException:
            self.file.close()
            raise

    def __len__(self) -> int:
        return len(self.pictures)

    def describe(self) -> str:
        parts = [f"{s.axes} {' x '.join(map(str, s.shape))}" for s in self.series]
        shown = "; ".join(parts[:3]) + ("; ..." if len(parts) > 3 else "")
        return f"{len(self)} pictures ({shown})"

    def samples(self, index: int) -> Samples:
        picture = self.pictures[index]
        page = picture.series.keyframe
        if picture.whole:
            check_memory(self.path, math.prod(picture.shape))
            array = picture.series.asarray()
            return Samples(array, colour=array.shape[-1] == 3, tags=self._tags(page))
        check_decodable(page, self.path)
        return samples_of(self._array(picture), page, self.path, self._tags(page))

    def close(self) -> None:
        self.file.close()

    def _array(self, picture: _Picture) -> numpy.ndarray:
        series, pages = picture.series, picture.series.pages
        if len(pages) > picture.place:
            page = pages[picture.place]
            if page is None:
                raise ImageError(f"{self.path} is damaged: picture {picture.place + 1} is missing")
            return page.asarray()
        # ImageJ describes the first of many pages, and they follow one another
        kind = numpy.dtype(series.dtype).newbyteorder(self.file.byteorder)
        size = int(numpy.prod(picture.shape)) * kind.itemsize
        with self.path.open("rb") as file:
            file.seek(series.dataoffset + picture.place * size)
            array = numpy.frombuffer(file.read(size), kind)
        return array.reshape(picture.shape).astype(kind.newbyteorder("="))

    def _tags(self, page: tifffile.TiffPage) -> Tags:
        tags, file = page.tags, self.file
        resolution = [tags.valueof(name) for name in ("XResolution", "YResolution")]
        plain = not (file.is_imagej or file.is_ome or file.is_shaped)
        along = [n / d if n and d else None for n, d in (r or (0, 0) for r in resolution)]
        size, unit = None, int(tags.valueof("ResolutionUnit", default=2))
        if along[0] and along[1]:
            size = (along[0], along[1])
        physical = _physical(file.ome_metadata or "") if file.is_ome else None
        if physical:
            size, unit = physical, 3
        return Tags(
            profile=tags.valueof("InterColorProfile"),
            resolution=size,
            unit=unit,
            description=(page.description or None) if plain else None,
            imagej=file.imagej_metadata if file.is_imagej else None,
            ome=file.ome_metadata if file.is_ome else None,
            exif=exif_of_tiff(self.path),
        )

    def layout(self) -> Layout | None:
        """Axes and sizes of the one stack that all pictures are in, without those of a picture."""
        if len(self.series) != 1 or self.pictures[0].whole:
            return None
        series = self.series[0]
        own = len(series.keyframe.shape)
        return series.axes[:-own], series.shape[:-own]


def _place_in_file(picture: _Picture) -> Any:
    page = picture.series.pages[picture.place]
    return -1 if page is None else page.index


def _physical(xml: str) -> tuple[float, float] | None:
    """Pixels per centimetre, from the size of the first image's."""
    for element in ElementTree.fromstring(xml).iter():
        if element.tag.endswith("}Pixels") and element.get("PhysicalSizeX"):
            sizes = []
            for axis in "XY":
                size = float(element.get(f"PhysicalSize{axis}") or element.get("PhysicalSizeX", 0))
                unit = element.get(f"PhysicalSize{axis}Unit", "µm")
                sizes.append(size * _MICROMETRES.get(unit, 0))
            return (1e4 / sizes[0], 1e4 / sizes[1]) if min(sizes) > 0 else None
    return None


def _check_count(series: list[tifffile.TiffPageSeries], path: Path) -> None:
    """:raises ImageError: more pictures than there can be in a file of its size, each of a byte at least."""
    count = sum(math.prod(s.shape[: -len(s.keyframe.shape)]) for s in series)
    if count > path.stat().st_size:
        raise ImageError(f"{path} cannot be read; it is damaged: it claims {count} pictures")


def _is_picture(series: tifffile.TiffPageSeries) -> bool:
    return not int(series.keyframe.subfiletype) & 0b101  # reduced, or a mask


def _is_reduced(series: tifffile.TiffPageSeries, other: tifffile.TiffPageSeries) -> bool:
    """Whether it is a small copy of another picture, though nothing says so."""
    page, large = series.keyframe, other.keyframe
    sides = (page.imagelength, page.imagewidth), (large.imagelength, large.imagewidth)
    factors = [b / a for a, b in zip(*sides, strict=True)]
    same_ratio = abs(sides[0][0] * factors[1] - sides[1][0]) <= factors[1]
    return len(series.pages) == 1 and min(factors) > 1.5 and same_ratio


def _pictures(series: tifffile.TiffPageSeries) -> list[_Picture]:
    shape, page = series.shape, series.keyframe.shape
    count = int(numpy.prod(shape[: -len(page)]))
    # an array (H, W, C) that was written as H pages
    if series.kind == "shaped" and len(shape) == 3 > len(page) and shape[-1] <= _MOST_CHANNELS:
        return [_Picture(series, 0, whole=True)]
    return [_Picture(series, place) for place in range(count)]
