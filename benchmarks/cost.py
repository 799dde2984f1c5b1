"""What one gradient costs against the image's size and the number of filters."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import torch

from benchmarks.clock import Clock
from benchmarks.drawing import canvas, legend_below, style_of
from benchmarks.records import read_rows, write_rows
from benchmarks.registry import Benchmark, Figure, Options, Table, register
from convexreg.models import ModelConfig, parameter_count

SIDES = (64, 128, 256, 512, 1024)
FILTERS = (8, 16, 32, 64, 128)
DEFAULT_SIDE, DEFAULT_FILTERS = 256, 64
ARCHITECTURES = ("mgradnet-m", "mgradnet-c", "crr")
SIGMA = 25 / 255


@register
class Cost(Benchmark):
    """Value and gradient of freshly built models; all configurations alternate."""

    name = "cost"
    description = "Seconds of one gradient against image size and number of filters"

    def run(self, options: Options, folder: Path) -> None:
        sides = SIDES[:1] if options.tiny else SIDES
        filters = FILTERS[:1] if options.tiny else FILTERS
        cells = [("size", side, DEFAULT_FILTERS if not options.tiny else 8) for side in sides]
        cells += [("filters", DEFAULT_SIDE if not options.tiny else 32, count) for count in filters]
        configurations = [
            (kind, architecture, side, count)
            for kind, side, count in cells
            for architecture in ARCHITECTURES
        ]
        times: dict[tuple[str, str, int, int], list[float]] = {key: [] for key in configurations}
        parameters: dict[tuple[str, str, int, int], int] = {}
        for repetition in range(max(1, options.repeats) + 1):
            for key in configurations:
                _, architecture, side, count = key
                seconds, parameters[key] = _time(architecture, side, count, options)
                if repetition > 0:  # the first one allocates
                    times[key].append(seconds)
        rows = [
            {
                "varied": kind,
                "architecture": architecture,
                "side": side,
                "filters": count,
                "parameters": parameters[kind, architecture, side, count],
                "seconds": f"{median(values):.5f}",
                "seconds_min": f"{min(values):.5f}",
                "seconds_max": f"{max(values):.5f}",
            }
            for (kind, architecture, side, count), values in times.items()
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
            }
            for row in read_rows(folder / "cost.csv")
        ]
        note = "One value with its gradient, float32; median with the least and the most."
        return [Table("Cost of a gradient", rows, note)] if rows else []

    def figures(self, folder: Path) -> list[Figure]:
        rows = read_rows(folder / "cost.csv")
        return [
            _figure([row for row in rows if row["varied"] == kind], kind, key, label)
            for kind, key, label in (
                ("size", "side", "image side in pixels"),
                ("filters", "filters", "number of filters"),
            )
            if rows
        ]


def _time(architecture: str, side: int, count: int, options: Options) -> tuple[float, int]:
    torch.manual_seed(options.seed)
    channels = (1, 4, 8, count)
    model = ModelConfig(architecture, channels=channels).build().eval()  # type: ignore[arg-type]
    model = model.requires_grad_(False).to(options.device)
    generator = torch.Generator().manual_seed(options.seed)
    x = torch.rand((1, 1, side, side), generator=generator).to(options.device)
    model.value_and_grad(x, SIGMA)
    clock = Clock(options.device)
    model.value_and_grad(x, SIGMA)
    return clock.seconds, parameter_count(model)


def _figure(rows: list[dict[str, str]], kind: str, key: str, label: str) -> Figure:
    figure, axes = canvas(title=f"cost against {kind}", x=label, y="seconds per gradient")
    names = list(dict.fromkeys(row["architecture"] for row in rows))
    for name in names:
        chosen = [row for row in rows if row["architecture"] == name]
        xs = [float(row[key]) for row in chosen]
        ys = [float(row["seconds"]) for row in chosen]
        low = [y - float(row["seconds_min"]) for y, row in zip(ys, chosen, strict=True)]
        high = [float(row["seconds_max"]) - y for y, row in zip(ys, chosen, strict=True)]
        axes.errorbar(
            xs, ys, yerr=[low, high], marker="o", markersize=3, label=name, **style_of(name, names)
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yscale("log")
    legend_below(figure, axes, columns=3)
    return Figure(f"cost-{kind}", f"Time of one value with its gradient against {label}.", figure)
