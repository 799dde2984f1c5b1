"""What one evaluation of a convex model takes, and what it reaches of the rate of a matrix product.

An evaluation counts as four operations per pixel and number in the filters, however it is computed: a
multiplication and an addition for the filters, and for their adjoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from pandas import DataFrame

from benchmarks.harness.clock import alternating, processor_seconds
from benchmarks.harness.records import read_rows, write_rows
from benchmarks.harness.registry import Table
from convexreg.networks.operators import Convolution
from convexreg.regularizer import ConvexRegularizer

PRODUCT, PRODUCT_SIDE = "matrix product", 1024
# evaluations take milliseconds
REPEATS = 5


def measure(
    models: Mapping[str, ConvexRegularizer], *, side: int, sigma: float, repeats: int, file: Path
) -> None:
    """Write operations and the least processor seconds of a product and of each model's `value_and_grad`.

    :param side: of the gray image.
    """
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(PRODUCT_SIDE, PRODUCT_SIDE, generator=generator)
    x = torch.rand(1, 1, side, side, generator=generator)
    runs: dict[str, Callable[[], object]] = {PRODUCT: partial(torch.matmul, matrix, matrix)}
    runs |= {name: partial(model.value_and_grad, x, sigma) for name, model in models.items()}
    clocks = {name: partial(processor_seconds, run) for name, run in runs.items()}
    times = alternating(clocks, REPEATS * repeats)
    operations = {PRODUCT: 2 * PRODUCT_SIDE**3}
    operations |= {name: 4 * numbers(model) * side**2 for name, model in models.items()}
    rows = [
        {
            "what": name,
            "operations": operations[name],
            "pixels": "" if name == PRODUCT else side**2,
            "seconds": f"{min(seconds):.6f}",
        }
        for name, seconds in times.items()
    ]
    write_rows(file, rows)


def numbers(model: ConvexRegularizer) -> int:
    """How many numbers its filters are, as applied."""
    return sum(m.kernel.numel() for m in model.modules() if isinstance(m, Convolution))


def read(file: Path) -> DataFrame:
    """The rows of `measure` with `nanoseconds` per pixel, the `rate` in GFLOP/s, and its `fraction` of the
    product's."""
    rows = read_rows(file).astype(dict.fromkeys(("operations", "pixels", "seconds"), float))
    rows["nanoseconds"] = 1e9 * rows["seconds"] / rows["pixels"]
    rows["rate"] = 1e-9 * rows["operations"] / rows["seconds"]
    rows["fraction"] = rows["rate"] / rows["rate"].iloc[0]
    return rows


def table(file: Path) -> Table:
    """The rates of `measure`."""
    rows = read(file)
    columns = {
        "what": rows["what"],
        "ns per pixel": [
            "-" if math.isnan(each) else f"{each:.1f}" for each in rows["nanoseconds"]
        ],
        "GFLOP/s": rows["rate"].map("{:.1f}".format),
        "of the product's": rows["fraction"].map("{:.0%}".format),
    }
    note = (
        f"A product of float32 matrices of {PRODUCT_SIDE} x {PRODUCT_SIDE}, and a value with its gradient on "
        f"a gray image of {rows['pixels'].max():.0f} pixels. Operations of an evaluation are four per pixel "
        "and number in the filters, however they are computed. The least processor seconds, on one thread."
    )
    return Table("Rate of an evaluation", DataFrame(columns), note)
