"""Writing pictures as TIFF: pages, stacks, and what was said beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy
import tifffile

from convexreg.pictures.exif import add_directories, sized, software, tiff_tags
from convexreg.pictures.photograph import Photograph
from convexreg.pictures.samples import stored

Layout = tuple[str, tuple[int, ...]]

_MOST_BYTES = 2**32 - 2**25  # of classic TIFF


def write_tiff(
    path: Path, photographs: Iterable[Photograph], count: int, layout: Layout | None = ("", ())
) -> None:
    """One page for every picture, with what the first one's file said beside its pixels.

    :param count: how many there are.
    :param layout: axes and sizes of the one stack they are in; ImageJ's metadata need it.
    """
    ordered = iter(photographs)
    first = next(ordered)
    tags = first.tags
    arrays = (_array(item) for item in _chained(first, ordered))
    array = next(arrays)
    options: dict[str, Any] = {}
    big = array.nbytes * count > _MOST_BYTES
    camera = None
    if tags.exif is not None and not big:
        camera = sized(tags.exif, *first.pixels.shape[:0:-1])
    extra = [] if camera is None else tiff_tags(camera)
    if camera is not None and (named := software(camera)) is not None:
        options["software"] = named.encode()
    if tags.resolution is not None:
        options |= {"resolution": tags.resolution, "resolutionunit": tags.unit}
    if tags.profile is not None:  # versions of tifffile before 2024.5 have no option for it
        extra.append((34675, 7, len(tags.profile), tags.profile, True))
    if tags.imagej is not None and layout is not None and _imagej_takes(first, array):
        samples = "S" if array.ndim == 3 else ""
        tifffile.imwrite(
            path,
            _chained(array, arrays),
            shape=(*layout[1], *array.shape),
            dtype=array.dtype,
            photometric="rgb" if samples else "minisblack",
            imagej=True,
            metadata={**_kept(tags.imagej, count), "axes": f"{layout[0]}YX{samples}"},
            extratags=extra,
            **options,
        )
        if camera is not None:
            add_directories(path, camera)
        return
    description = tags.description
    if tags.ome is not None:
        description = _with_pages(tags.ome, array.dtype.name, count)
    kept = extra[-1:] if tags.profile is not None else []
    with tifffile.TiffWriter(path, bigtiff=big) as file:
        for number, item in enumerate(_chained(array, arrays)):
            file.write(
                item,
                description=(description or "").encode() or None if number == 0 else None,
                metadata=None,
                extratags=extra if number == 0 else kept,
                **_meaning(first, item),
                **options,
            )
    if camera is not None:
        add_directories(path, camera)


def _chained(first: Any, others: Iterable[Any]) -> Iterator[Any]:
    yield first
    yield from others


def _array(photograph: Photograph) -> numpy.ndarray:
    return stored(photograph, photograph.dtype, premultiplied=photograph.premultiplied)


def _meaning(photograph: Photograph, array: numpy.ndarray) -> dict[str, Any]:
    """What the samples of a page are."""
    count = 1 if array.ndim == 2 else array.shape[-1]
    colour = photograph.pixels.shape[0] - photograph.bands == 3
    extra: list[str] = ["unspecified"] * (count - (3 if colour else 1))
    if photograph.alpha is not None:
        extra[-1] = "assocalpha" if photograph.premultiplied else "unassalpha"
    return {
        "photometric": "rgb" if colour else "minisblack",
        "extrasamples": extra or None,
        "planarconfig": "contig" if count > 1 else None,
    }


def _imagej_takes(photograph: Photograph, array: numpy.ndarray) -> bool:
    if photograph.alpha is not None or (array.ndim == 3 and array.dtype != numpy.uint8):
        return False
    return array.dtype.char in "BHhf" and (array.ndim == 2 or photograph.pixels.shape[0] == 3)


def _kept(metadata: Mapping[str, Any], count: int) -> dict[str, Any]:
    """What ImageJ said, without what is written anew, or what is about pictures that are not."""
    dropped = {"ImageJ", "images", "channels", "slices", "frames", "hyperstack", "axes", "shape"}
    if count != metadata.get("images", 1):
        dropped |= {"mode", "Labels", "Ranges", "LUTs"}
    return {key: value for key, value in metadata.items() if key not in dropped}


def _with_pages(xml: str, dtype: str, count: int) -> str | None:
    """OME-XML for `count` planes that lie in the file in their order; `None` if it is not about so many."""
    root = ElementTree.fromstring(xml)
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    ElementTree.register_namespace("", space.strip("{}"))
    place = 0
    for pixels in root.iter(f"{space}Pixels"):
        planes = int(pixels.get("SizeT", 1)) * int(pixels.get("SizeZ", 1))
        channels = len(pixels.findall(f"{space}Channel"))
        planes *= channels or int(pixels.get("SizeC", 1))
        for old in pixels.findall(f"{space}TiffData"):
            pixels.remove(old)
        new = ElementTree.Element(f"{space}TiffData", IFD=str(place), PlaneCount=str(planes))
        after = [i for i, child in enumerate(pixels) if child.tag == f"{space}Channel"]
        pixels.insert(after[-1] + 1 if after else 0, new)
        pixels.set("Type", {"float32": "float", "float64": "double"}.get(dtype, dtype))
        place += planes
    return ElementTree.tostring(root, encoding="unicode") if place == count else None
