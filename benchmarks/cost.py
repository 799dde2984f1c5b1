"""What one gradient costs against the image's size and the number of filters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from benchmarks.harness.clock import Clock
from benchmarks.harness.drawing import canvas, legend_below, style_of
from benchmarks.harness.memory import peak_mebibytes
from benchmarks.harness.options import Options
from benchmarks.harness.records import read_rows, write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from convexreg.models.config import Architecture, ModelConfig, parameter_count
from convexreg.regularizer import ConvexRegularizer

LARGEST_SIDE, SMALLEST_SIDE = 1024, 64
FILTERS = (8, 16, 32, 64, 128)
DEFAULT_SIDE, DEFAULT_FILTERS = 256, 64
ARCHITECTURES: tuple[Architecture, ...] = ("mgradnet-m", "mgradnet-c", "crr")
SIGMA = 25 / 255


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
    adds_up = False
    restricted_by = ("methods",)

    def run(self, options: Options, folder: Path) -> None:
        configurations = _configurations(options)
        times: dict[Configuration, list[float]] = {row: [] for row in configurations}
        for repetition in range(max(1, options.repeats) + 1):
            for configuration in configurations:
                seconds = _time(configuration, options)
                if repetition > 0:  # the first one allocates
                    times[configuration].append(seconds)
        memory = _memory([row for row in configurations if row.varied == "size"], options.device)
        rows = [
            {
                **asdict(configuration),
                "parameters": parameter_count(_model(configuration, options.device)),
                "seconds": f"{median(values):.5f}",
                "seconds_min": f"{min(values):.5f}",
                "seconds_max": f"{max(values):.5f}",
                "mebibytes": memory.get(configuration, ""),
            }
            for configuration, values in times.items()
        ]
        write_rows(folder / "cost.csv", rows)

    def tables(self, folder: Path) -> list[Table]:
        rows = [
            {
                "architecture": row["architecture"],
                "image": f"{row['side']} x {row['side']}",
                "filters": row["filters"],
                "parameters": row["parameters"],
                "ms": f"{1e3 * float(row['seconds']):.1f} ({1e3 * float(row['seconds_min']):.1f} to "
                f"{1e3 * float(row['seconds_max']):.1f})",
                "ns per pixel": f"{1e9 * float(row['seconds']) / float(row['side']) ** 2:.0f}",
                "MiB": row["mebibytes"] or "-",
            }
            for row in read_rows(folder / "cost.csv")
        ]
        note = "A value with its gradient, float32: median (least to most) and peak memory."
        return [Table("Cost of a gradient", rows, note)] if rows else []

    def figures(self, folder: Path) -> list[Figure]:
        rows = read_rows(folder / "cost.csv")
        if not rows:
            return []
        sizes = [row for row in rows if row["varied"] == "size"]
        counts = [row for row in rows if row["varied"] == "filters"]
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


def _figure(rows: list[dict[str, str]], x: str, y: str, label: str) -> Figure:
    figure, axes = canvas(title=f"cost against {_LABELS[x]}", x=_LABELS[x], y=label)
    names = list(dict.fromkeys(row["architecture"] for row in rows))
    for name in names:
        chosen = [row for row in rows if row["architecture"] == name]
        xs, ys = [float(row[x]) for row in chosen], [float(row[y]) for row in chosen]
        axes.plot(xs, ys, marker="o", markersize=3, label=name, **style_of(name, names))
        if y == "seconds":
            low, high = ([float(row[f"seconds_{end}"]) for row in chosen] for end in ("min", "max"))
            colour = style_of(name, names)["color"]
            axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yscale("log")
    legend_below(figure, axes, columns=3)
    caption = f"One value with its gradient: {label} against {_LABELS[x]}."
    return Figure(f"cost-{x}-{y}", caption, figure)
