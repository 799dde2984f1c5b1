"""Certificates against the truth on thousands of small random problems."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pandas import DataFrame

from benchmarks.harness.drawing import canvas, legend_below, style_of
from benchmarks.harness.options import Options
from benchmarks.harness.records import write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register
from convexreg import reconstruct
from convexreg.models.config import Architecture, ModelConfig
from convexreg.networks.operators import Padding
from convexreg.reconstruction.defaults import Tolerance
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers import QuasiNewton

PHYSICS = ("denoising", "inpainting", "blur-circular", "blur-valid", "blur-reflect", "downsampling")
# mgradnet-c is left out: its energy is a quadrature, and every solve takes a minute
ARCHITECTURES: tuple[Architecture, ...] = ("mgradnet-m", "crr")
SIDE, PER_ROW, SIGMA, ANCHOR = 10, 105, 0.1, 1e-3
PADDINGS: tuple[Padding, ...] = ("zero", "circular")


@dataclass(frozen=True)
class Row:
    """One kind of problem; `boxed`: over [0, 1] instead of with an anchor (or nothing, for denoising)."""

    architecture: Architecture
    padding: Padding
    physics: str
    dtype: str
    boxed: bool


@register
class Certificates(Benchmark):
    """Random images, measurements, masks, kernels and regularizers: `PER_ROW` problems of every kind.

    Each is solved to a tolerance drawn at random, and its certificate compared with the gap to the
    best point that a long float64 solve from there finds.
    """

    name = "certificates"
    description = "Certified gaps against true gaps on 10,000 small random problems"
    file = "certificates.csv"
    numbers = ("problems", "violations", "least_ratio", "median_ratio")
    adds_up = False
    restricted_by = ()

    def run(self, options: Options, folder: Path) -> None:
        kinds = itertools.product(
            ARCHITECTURES, PADDINGS, PHYSICS, ("float32", "float64"), (False, True)
        )
        rows = [Row(*kind) for kind in kinds]
        if options.tiny:
            rows = rows[:: len(rows) // 4]
        results = []
        for number, row in enumerate(rows):
            checked = _check(row, options.seed + number, 2 if options.tiny else PER_ROW)
            results.append({**asdict(row), **checked})
            write_rows(folder / self.file, results)

    def tables(self, folder: Path) -> list[Table]:
        rows = self.rows(folder)
        table = [
            {
                "physics": physics,
                "constraint": "box" if boxed == "True" else "none",
                "problems": f"{its['problems'].sum():g}",
                "certificate below the gap": f"{its['violations'].sum():g}",
                "least certificate / gap": f"{its['least_ratio'].min():.3g}",
                "median": f"{its['median_ratio'].median():.3g}",
            }
            for (physics, boxed), its in rows.groupby(["physics", "boxed"], sort=False)
        ]
        note = (
            "mGradNet-M and CRR, two paddings, float32 and float64. Ratios over problems whose true "
            "gap is above float64 rounding."
        )
        return [Table("Certificates", DataFrame(table), note)]

    def figures(self, folder: Path) -> list[Figure]:
        rows = self.rows(folder)
        figure, axes = canvas(title="certificate over true gap", x="", y="ratio")
        places = rows["physics"].map(PHYSICS.index) + rows["boxed"].map(
            {"True": 0.15, "False": -0.15}
        )
        style = {"linestyle": "", "marker": "o", "markersize": 4, "alpha": 0.6}
        for key, label in (("median_ratio", "median"), ("least_ratio", "least")):
            style["color"] = style_of(label, ("median", "least"))["color"]
            axes.plot(places, rows[key], label=label, **style)
        axes.axhline(1, color="black", linewidth=1)
        axes.set_yscale("log")
        axes.set_xticks(range(len(PHYSICS)), PHYSICS, rotation=30, ha="right")
        legend_below(figure, axes, columns=2)
        caption = (
            "Proven gap over true gap, one point per kind of problem (left: without a box, right: in a "
            "box); a proof that failed would lie below the line."
        )
        return [Figure("certificates", caption, figure)]


def _check(row: Row, seed: int, count: int) -> dict[str, object]:
    """Violations and ratios over `count` problems, solved as one batch."""
    generator = torch.Generator().manual_seed(seed)
    dtype = getattr(torch, row.dtype)
    physics = _random_physics(row.physics, generator).to(dtype)
    model = _random_model(row, generator).to(dtype)
    images = torch.rand(count, 1, SIDE, SIDE, generator=generator).to(dtype)
    exact = physics.A(images)
    result = reconstruct(
        exact + SIGMA * torch.randn(exact.shape, generator=generator).to(dtype),
        physics,
        sigma=SIGMA,
        regularizer=model,
        lam=10 ** (1.5 * torch.rand(count, generator=generator, dtype=torch.float64)),
        anchor=0.0 if row.boxed or row.physics == "denoising" else ANCHOR,
        box=(0.0, 1.0) if row.boxed else None,
        gap_tol=10.0 ** -float(1 + 3 * torch.rand((), generator=generator)),
        max_iter=300,
    )
    problem, there = result.problem.exact(result.image), result.image.double()
    tolerance, solver = Tolerance(gap_tol=1e-10, gtol=1e-10), QuasiNewton(memory=30)
    minimum = problem.minimise(there, tolerance=tolerance, solver=solver, max_iter=400, throw=False)
    # of a point that may not be the minimiser: never more than the true gap, so that a certificate
    # below it is wrong beyond doubt
    value = problem.objective.value(there)
    gap = value - problem.objective.value(minimum.x)
    rounding = 1e-13 * value.abs()
    certified = result.certificate.gap
    ratios = (certified / gap)[gap > 100 * rounding]
    return {
        "problems": count,
        "violations": int((certified + rounding < gap).sum()),
        "least_ratio": f"{float(ratios.min()):.3g}" if ratios.numel() else "",
        "median_ratio": f"{float(ratios.median()):.3g}" if ratios.numel() else "",
    }


def _random_model(row: Row, generator: torch.Generator) -> ConvexRegularizer:
    """A small regularizer with random filters and scales."""
    config = ModelConfig(
        row.architecture, channels=(1, 3, 8), kernel_sizes=(3, 3), padding=row.padding
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        model = config.build()
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def _random_physics(name: str, generator: torch.Generator) -> Any:
    from deepinv import physics

    size: Any = (1, SIDE, SIDE)
    kernel = torch.rand(1, 1, 3, 3, generator=generator)
    kernel = kernel / kernel.sum()
    match name.split("-"):
        case ["denoising"]:
            return physics.Denoising()
        case ["inpainting"]:
            mask = (torch.rand(1, *size, generator=generator) > 0.4).float()
            return physics.Inpainting(img_size=size, mask=mask)
        case ["downsampling"]:
            return physics.Downsampling(img_size=size, filter=kernel, factor=2, padding="circular")
        case _:
            return physics.Blur(filter=kernel, padding=name.removeprefix("blur-"))
