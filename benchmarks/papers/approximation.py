"""Universal approximation, seen: error against width (2024 paper, section 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.records import read_rows
from benchmarks.harness.options import Options
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from benchmarks.papers import drawing
from benchmarks.papers.ensemble import Fit, fit, minibatches
from benchmarks.papers.fields import BEYOND_RIDGES, Field
from benchmarks.papers.networks import mgradnet_c, softmax_layer
from benchmarks.papers.objectives import squared_error
from benchmarks.papers.trials import (
    Row,
    best_variant,
    distinct,
    numbers,
    replace_rows,
    select,
)


@dataclass(frozen=True)
class Settings:
    """Of the training."""

    trials: int = 3
    training_points: int = 20_000
    held_out_points: int = 5000
    epochs: int = 50
    batch_size: int = 500
    learning_rate: float = 1e-2
    widths: tuple[int, ...] = (4, 16, 64)
    functions: tuple[str, ...] = tuple(BEYOND_RIDGES)


TINY = Settings(
    trials=2,
    training_points=200,
    held_out_points=100,
    epochs=2,
    batch_size=50,
    widths=(4, 8),
    functions=("maximum",),
)

NETWORKS: dict[str, dict[str, Callable[[int, int], nn.Module]]] = {
    "softmax layer": {
        "temperature 2": lambda dimension, width: softmax_layer(dimension, width, 2.0),
        "temperature 8": lambda dimension, width: softmax_layer(dimension, width, 8.0),
        "temperature 32": lambda dimension, width: softmax_layer(dimension, width, 32.0),
    },
    "mGradNet-C": {
        "3 layers": lambda dimension, width: mgradnet_c(dimension, width, 3, learned=True)
    },
}
"""Networks and their variants; the variant with the lowest validation error counts."""


@register
class Approximation(Benchmark):
    """One layer of scaled softmax approximates the gradient of every convex function (Thm 4).

    Convex functions of three variables that are no sums of convex ridges. mGradNet-C, which is such
    a sum, stops improving at some width; the softmax layer does not. The norm is outside the finite
    sums but a limit of them (`|x|` is an average of `|<x, v>|` over directions `v`), and there the
    cascaded network does not stop.
    """

    name = "approximation"
    description = "Error against width on convex functions that are not sums of convex ridges"
    restricted_by = ("methods",)

    def run(self, options: Options, folder: Path) -> None:
        settings = TINY if options.tiny else Settings()
        networks = selected(NETWORKS, options.methods, "method")
        for function, name, width in product(settings.functions, networks, settings.widths):
            field = BEYOND_RIDGES[function]
            rows: list[dict[str, Any]] = []
            for variant, build in networks[name].items():
                generator = torch.Generator().manual_seed(options.seed)
                training, validation, test = _data(field, settings, generator)
                fitted = fit(
                    lambda build=build, d=field.dimension, w=width: build(d, w),
                    squared_error,
                    minibatches(
                        training,
                        epochs=settings.epochs,
                        batch_size=settings.batch_size,
                        generator=generator,
                    ),
                    validation,
                    trials=settings.trials,
                    seed=options.seed,
                    learning_rate=settings.learning_rate,
                    validate_every=settings.training_points // settings.batch_size,
                    decay_over=settings.epochs * settings.training_points // settings.batch_size,
                )
                label = {"function": function, "network": name, "width": width, "variant": variant}
                rows += [label | row for row in _measure(fitted, test)]
            replace_rows(folder / "trials.csv", rows, "function", "network", "width")

    def tables(self, folder: Path) -> list[Table]:
        best = _best_rows(read_rows(folder / "trials.csv"))
        widths = distinct(best, "width")
        rows = []
        for function, name in product(distinct(best, "function"), distinct(best, "network")):
            of_network = select(best, function=function, network=name)
            rows.append(
                {"function": function, "network": name}
                | {f"width {w}": _mean(select(of_network, width=w), "rmse") for w in widths}
                | {
                    "largest error, widest": _mean(
                        select(of_network, width=widths[-1]), "largest_error"
                    )
                }
            )
        note = (
            "RMSE over points and components (not in dB), mean over the trials; the largest error is the "
            "largest norm of the error over the test points."
        )
        return [Table(self.description, rows, note)]

    def figures(self, folder: Path) -> list[Figure]:
        return [
            Figure(
                "approximation",
                "Test error against width: mean over the trials and every trial.",
                drawing.error_against_width(_best_rows(read_rows(folder / "trials.csv"))),
            )
        ]


def _data(field: Field, settings: Settings, generator: torch.Generator) -> list[list[Tensor]]:
    """Training, validation and test points with the field there."""
    counts = settings.training_points, settings.held_out_points, settings.held_out_points
    points = [field.sample(settings.trials, count, generator=generator) for count in counts]
    return [[x, field.gradient(x)] for x in points]


def _measure(fitted: Fit, test: list[Tensor]) -> list[dict[str, Any]]:
    with torch.no_grad():
        error = fitted.ensemble(test[0]) - test[1]
    best = fitted.history.amin(0).sqrt()
    return [
        {
            "trial": trial,
            "parameters": fitted.ensemble.parameter_count,
            "validation_rmse": f"{float(best[trial]):.4e}",
            "rmse": f"{float(error[trial].square().mean().sqrt()):.4e}",
            "largest_error": f"{float(error[trial].norm(dim=-1).max()):.4e}",
            "seconds": f"{fitted.seconds:.1f}",
        }
        for trial in range(len(error))
    ]


def _best_rows(trials: Sequence[Row]) -> list[Row]:
    """The rows of every network's best variant, at each width of each function."""
    cases = product(*(distinct(trials, column) for column in ("function", "network", "width")))
    return [
        row
        for function, name, width in cases
        for row in best_variant(
            select(trials, function=function, network=name, width=width),
            "variant",
            "validation_rmse",
        )
    ]


def _mean(rows: Sequence[Row], column: str) -> str:
    values = numbers(rows, column)
    return f"{sum(values) / len(values):.4f}"
