"""Many reconstructions in one process: whether its memory grows."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from pandas import DataFrame
from torch import Tensor

from benchmarks.harness.drawing import canvas
from benchmarks.harness.memory import mebibytes
from benchmarks.harness.options import Options
from benchmarks.harness.records import write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register

SIGMA = 0.1
SIDES = (40, 56, 48, 64)
"""Caches of plans, grids and strips see sizes that change."""


@register
class Endurance(Benchmark):
    """A thousand reconstructions by all kinds of models and operators, one after another."""

    name = "endurance"
    description = "Memory after so many reconstructions in one process"
    file = "memory.csv"
    numbers = ("reconstructions", "mebibytes")
    adds_up = False

    def run(self, options: Options, folder: Path) -> None:
        count, every = (4, 2) if options.tiny else (1000, 50)
        with get_context("spawn").Pool(1) as pool:
            rows = pool.apply(measured, (count, every, options.device))
        write_rows(folder / self.file, rows)

    def tables(self, folder: Path) -> list[Table]:
        rows = self.rows(folder)
        first = rows["mebibytes"].iloc[0]
        table = DataFrame(
            {
                "reconstructions": rows["reconstructions"].map("{:.0f}".format),
                "MiB": rows["mebibytes"].map("{:.0f}".format),
                "more than at first": (rows["mebibytes"] - first).map("{:.1f}".format),
            }
        )
        sides = ", ".join(map(str, SIDES))
        note = f"Of the whole process; pictures of {sides} pixels a side in turn, gray and colour."
        return [Table(self.description, table, note)]

    def figures(self, folder: Path) -> list[Figure]:
        rows = self.rows(folder)
        figure, axes = canvas(title=self.description, x="reconstructions", y="MiB")
        axes.plot(rows["reconstructions"], rows["mebibytes"])
        axes.set_ylim(bottom=0)
        return [
            Figure("endurance", "Peak memory of the process after so many reconstructions.", figure)
        ]


def measured(count: int, every: int, device: str) -> list[dict[str, object]]:
    """Memory of this process after every so many reconstructions."""
    torch.set_num_threads(1)
    tasks, rows = _tasks(device), []
    for number in range(1, count + 1):
        tasks[number % len(tasks)](SIDES[number % len(SIDES)])
        if number % every == 0:
            rows.append({"reconstructions": number, "mebibytes": f"{mebibytes(device):.1f}"})
    return rows


def _tasks(device: str) -> list[Callable[[int], object]]:
    """One for each kind of reconstruction, given the side of a picture; every picture is another one."""
    import deepinv

    from convexreg.reconstruction.from_measurements import reconstruct

    generator = torch.Generator(device).manual_seed(0)

    def noisy(channels: int, side: int) -> Tensor:
        ramp = torch.linspace(0.2, 0.8, side, device=device).expand(1, channels, side, side)
        return ramp + SIGMA * torch.randn(ramp.shape, generator=generator, device=device)

    def denoise(channels: int, model: str) -> Callable[[int], object]:
        physics = deepinv.physics.Denoising()
        return lambda side: reconstruct(
            noisy(channels, side), physics, sigma=SIGMA, regularizer=model
        )

    def deblur(side: int) -> object:
        kernel = torch.full((1, 1, 3, 3), 1 / 9, device=device)
        where: Any = device
        physics = deepinv.physics.Blur(kernel, padding="circular", device=where)
        return reconstruct(noisy(1, side), physics, sigma=SIGMA, regularizer="mgradnet-m")

    def inpaint(side: int) -> object:
        y = noisy(1, side)
        mask = (torch.rand(y.shape, generator=generator, device=device) > 0.3).to(y)
        size: Any = tuple(y.shape[1:])
        physics = deepinv.physics.Inpainting(size, mask=mask, device=device)
        return reconstruct(mask * y, physics, sigma=SIGMA, regularizer="mgradnet-m-adaptive-small")

    return [
        denoise(1, "mgradnet-m"),
        denoise(3, "mgradnet-m-colour"),
        denoise(1, "mgradnet-m-adaptive-small"),
        deblur,
        inpaint,
    ]
