"""What one gradient costs against the image's size and the number of filters."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from pandas import DataFrame
from torch import Tensor

from benchmarks.harness.clock import Clock, alternating, summary
from benchmarks.harness.drawing import canvas, legend_below, style_of
from benchmarks.harness.memory import peak_mebibytes
from benchmarks.harness.options import Options
from benchmarks.harness.records import write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from convexreg.models.config import Architecture, ModelConfig, parameter_count
from convexreg.regularizer import ConvexRegularizer

LARGEST_SIDE, SMALLEST_SIDE = 1024, 64
FILTERS = (8, 16, 32, 64, 128)
DEFAULT_SIDE, DEFAULT_FILTERS = 256, 64
ARCHITECTURES: tuple[Architecture, ...] = ("mgradnet-m", "mgradnet-c", "crr")
SIGMA = 25 / 255
SECONDS = ("seconds", "seconds_min", "seconds_max")


@dataclass(frozen=True)
class Configuration:
    """What is timed, and which of the two curves it belongs to."""

    varied: str
    architecture: Architecture
    side: int
    filters: int


@register
class Cost(Benchmark):
    """Value and gradient of freshly built models; all configurations alternate.

    `--crop N` sets the largest image side (4900 for 24 megapixels), `--methods` the architectures.
    """

    name = "cost"
    description = "Seconds and memory of one gradient against image size and number of filters"
    file = "cost.csv"
    numbers = (*SECONDS, "mebibytes", "side", "filters")
    adds_up = False
    restricted_by = ("methods",)

    def run(self, options: Options, folder: Path) -> None:
        configurations = _configurations(options)
        runs = {row: partial(_time, row, options) for row in configurations}
        times = alternating(runs, options.repeats)
        memory = _memory([row for row in configurations if row.varied == "size"], options.device)
        rows = [
            {
                **asdict(configuration),
                "parameters": parameter_count(_model(configuration, options.device)),
                **summary(values, 5),
                "mebibytes": memory.get(configuration, ""),
            }
            for configuration, values in times.items()
        ]
        write_rows(folder / self.file, rows)

    def tables(self, folder: Path) -> list[Table]:
        rows = self.rows(folder)
        table = [
            {
                "architecture": row["architecture"],
                "image": f"{row['side']:g} x {row['side']:g}",
                "filters": f"{row['filters']:g}",
                "parameters": row["parameters"],
                "ms": "{:.1f} ({:.1f} to {:.1f})".format(*(1e3 * row[list(SECONDS)])),
                "ns per pixel": f"{1e9 * row['seconds'] / row['side'] ** 2:.0f}",
                "MiB": "-" if math.isnan(row["mebibytes"]) else f"{row['mebibytes']:.0f}",
            }
            for _, row in rows.iterrows()
        ]
        note = "A value with its gradient, float32: median (least to most) and peak memory."
        return [Table("Cost of a gradient", DataFrame(table), note)]

    def figures(self, folder: Path) -> list[Figure]:
        rows = self.rows(folder)
        sizes, counts = (rows[rows["varied"] == kind] for kind in ("size", "filters"))
        return [
            _figure(sizes, "side", "seconds", "seconds per gradient"),
            _figure(sizes, "side", "mebibytes", "peak memory, MiB"),
            _figure(counts, "filters", "seconds", "seconds per gradient"),
        ]


def _configurations(options: Options) -> list[Configuration]:
    chosen = list(selected(dict.fromkeys(ARCHITECTURES), options.methods, "architecture"))
    largest = options.crop or (SMALLEST_SIDE if options.tiny else LARGEST_SIDE)
    sides = [SMALLEST_SIDE]
    while sides[-1] * 2 < largest:
        sides.append(sides[-1] * 2)
    sides += [largest] if largest > sides[-1] else []
    side, filters = (32, FILTERS[:1]) if options.tiny else (DEFAULT_SIDE, FILTERS)
    cells = [("size", each, min(DEFAULT_FILTERS, filters[-1])) for each in sides]
    cells += [("filters", side, count) for count in filters]
    chosen = chosen[: 1 if options.tiny else None]
    return [
        Configuration(kind, name, side, count) for kind, side, count in cells for name in chosen
    ]


def _model(configuration: Configuration, device: str) -> ConvexRegularizer:
    settings = ModelConfig(configuration.architecture, channels=(1, 4, 8, configuration.filters))
    return settings.build().eval().requires_grad_(False).to(device)


def _image(side: int, device: str) -> Tensor:
    return torch.rand((1, 1, side, side), generator=torch.Generator().manual_seed(0)).to(device)


def _time(configuration: Configuration, options: Options) -> float:
    torch.manual_seed(options.seed)
    model = _model(configuration, options.device)
    x = _image(configuration.side, options.device)
    clock = Clock(options.device)
    model.value_and_grad(x, SIGMA)
    return clock.seconds


def _memory(configurations: list[Configuration], device: str) -> dict[Configuration, str]:
    """Peak memory of each in MiB (at least one), beyond what the program takes without an image.

    On the CPU each architecture runs in a fresh process, smallest image first, because a process
    only knows the largest memory it ever had.
    """
    result = {}
    for name in dict.fromkeys(row.architecture for row in configurations):
        rows = [row for row in configurations if row.architecture == name]
        if "cuda" in device:
            peaks = _peaks(rows, device)
        else:
            with get_context("spawn").Pool(1) as pool:
                peaks = pool.apply(_peaks, (rows, device))
        result |= {row: f"{max(peak, 1):.0f}" for row, peak in zip(rows, peaks, strict=True)}
    return result


def _peaks(configurations: list[Configuration], device: str) -> list[float]:
    model = _model(configurations[0], device)
    model.value_and_grad(_image(16, device), SIGMA)
    before, peaks = peak_mebibytes(device), []
    for row in configurations:
        model.value_and_grad(_image(row.side, device), SIGMA)
        peaks.append(peak_mebibytes(device) - before)
    return peaks


_LABELS = {"side": "image side in pixels", "filters": "number of filters"}


def _figure(rows: DataFrame, x: str, y: str, label: str) -> Figure:
    figure, axes = canvas(title=f"cost against {_LABELS[x]}", x=_LABELS[x], y=label)
    names = rows["architecture"].unique()
    for name, its in rows.groupby("architecture", sort=False):
        style = style_of(str(name), names)
        axes.plot(its[x], its[y], marker="o", markersize=3, label=name, **style)
        if y == "seconds":
            spread = its["seconds_min"], its["seconds_max"]
            axes.fill_between(its[x], *spread, color=style["color"], alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yscale("log")
    legend_below(figure, axes, columns=3)
    caption = f"One value with its gradient: {label} against {_LABELS[x]}."
    return Figure(f"cost-{x}-{y}", caption, figure)
