"""Estimated against true noise levels, on photographs that are disturbed as people's are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy
from pandas import DataFrame

from benchmarks.harness.datasets import open_images
from benchmarks.harness.drawing import canvas, style_of
from benchmarks.harness.options import Options
from benchmarks.harness.records import write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register
from convexreg.pictures.blocks import NoNoise
from convexreg.pictures.noise import estimate_noise

Plane = numpy.ndarray
LEVELS = (5, 25)
OURS, THEIRS = "convexreg", "scikit-image"


def _exposed(noisy: Plane) -> Plane:
    """8 bits, clipped."""
    return numpy.round(noisy.clip(0, 1) * 255) / 255


def _flat(noisy: Plane) -> Plane:
    """A saturated sky: the upper 30 % are white."""
    result = _exposed(noisy)
    result[: int(0.3 * len(result))] = 1
    return result


def _framed(noisy: Plane) -> Plane:
    """The border of a scan: half of the pixels are one gray."""
    result = _exposed(noisy)
    rows, columns = (int(0.146 * side) for side in result.shape)
    frame = numpy.ones(result.shape, bool)
    frame[rows:-rows, columns:-columns] = False
    result[frame] = 200 / 255
    return result


DISTURBANCES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "none": lambda clean, noise: clean + noise,
    "30 % saturated": lambda clean, noise: _flat(clean + noise),
    "50 % border": lambda clean, noise: _framed(clean + noise),
    "overexposed": lambda clean, noise: _exposed(1.8 * clean + noise),
    "underexposed": lambda clean, noise: _exposed(0.2 * clean + noise),
    "black background": lambda clean, noise: _exposed(numpy.where(clean < 0.35, 0, clean) + noise),
}
"""Of a clean image and noise: what is in the file. The level is that of the noise before clipping."""


@register
class NoiseLevels(Benchmark):
    """Both estimators see the same pixels; the true level is that of the noise that was added."""

    name = "noise-levels"
    description = "Estimated against true noise levels of disturbed photographs"
    file = "levels.csv"
    numbers = ("true", OURS, THEIRS)
    adds_up = False
    restricted_by = ()

    def run(self, options: Options, folder: Path) -> None:
        limit = 2 if options.tiny else options.limit or 20
        images = open_images(options.images or "photographs", limit=limit, crop=options.crop)
        rows = []
        for number, (name, image) in enumerate(images):
            clean = image[0].double().numpy()
            for level in LEVELS:
                random = numpy.random.default_rng(number)
                noise = level / 255 * random.standard_normal(clean.shape)
                for kind, disturbed in DISTURBANCES.items():
                    row = {"image": name, "disturbance": kind, "true": level}
                    rows.append({**row, **_estimates(disturbed(clean, noise))})
        write_rows(folder / self.file, rows)

    def tables(self, folder: Path) -> list[Table]:
        lines = []
        for (level, kind), its in self.rows(folder).groupby(["true", "disturbance"], sort=False):
            line: dict[str, object] = {"noise": f"{level:.0f}/255", "disturbance": kind}
            for name in (OURS, THEIRS):
                ratio = its[name] / its["true"]
                line[name] = f"{ratio.median():.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
                line[f"{name}: none"] = int(ratio.isna().sum())
            lines.append(line)
        count = self.rows(folder)["image"].nunique()
        note = (
            f"Estimated over true level of {count} images: median (least to most), and for how many there "
            "was no estimate. The clean images have some noise of their own."
        )
        return [Table("Noise levels", DataFrame(lines), note)]

    headline = tables

    def figures(self, folder: Path) -> list[Figure]:
        rows = self.rows(folder)
        drawing, axes = canvas(title="Noise levels", x="true / 255", y="estimated / 255")
        for offset, name in ((-0.4, OURS), (0.4, THEIRS)):
            axes.plot(
                rows["true"] + offset, rows[name], ".", label=name,
                color=style_of(name, (OURS, THEIRS))["color"],
            )  # fmt: skip
        axes.plot(LEVELS, LEVELS, color="black", linewidth=0.8)
        axes.legend()
        caption = "Every image and disturbance; the line is right"
        return [Figure("noise-levels", caption, drawing)]


def _estimates(plane: Plane) -> dict[str, object]:
    """Both in units of 1/255; nothing where there is none."""
    import torch
    from skimage.restoration import estimate_sigma

    with numpy.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nothing but zeros
        theirs = 255 * float(numpy.mean(estimate_sigma(plane)))
    try:
        ours: object = f"{255 * estimate_noise(torch.from_numpy(plane)[None]).sigma:.3f}"
    except NoNoise:
        ours = ""
    return {OURS: ours, THEIRS: f"{theirs:.3f}" if theirs > 0 else ""}
