"""Universal approximation, seen: error against width (2024 paper, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pandas
import torch
from pandas import DataFrame
from torch import nn

from benchmarks.harness.options import Options
from benchmarks.harness.records import replace_rows
from benchmarks.harness.registry import Figure, Table, register, selected
from benchmarks.papers import drawing
from benchmarks.papers.ensemble import Training, fit, minibatches
from benchmarks.papers.fields import BEYOND_RIDGES
from benchmarks.papers.networks import mgradnet_c, softmax_layer
from benchmarks.papers.objectives import squared_error
from benchmarks.papers.trials import Experiment, best_variant, trials

WIDTHS = (4, 16, 64)
TRAINING = Training(3, 2000, 500, 1e-2, (20_000, 5000, 5000), validations=50)
TINY = Training(2, 8, 50, 1e-2, (200, 100, 100), validations=2)

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
class Approximation(Experiment):
    """One layer of scaled softmax approximates the gradient of every convex function (Thm 4).

    Convex functions of three variables that are no sums of convex ridges. mGradNet-C, which is such
    a sum, stops improving at some width; the softmax layer does not. The norm is outside the finite
    sums but a limit of them (`|x|` is an average of `|<x, v>|` over directions `v`), and there the
    cascaded network does not stop.
    """

    name = "approximation"
    description = "Error against width on convex functions that are not sums of convex ridges"
    numbers = ("width", "validation_rmse", "rmse", "largest_error")

    def run(self, options: Options, folder: Path) -> None:
        training = TINY if options.tiny else TRAINING
        functions, widths = list(BEYOND_RIDGES), WIDTHS
        if options.tiny:
            functions, widths = functions[:1], widths[:2]
        networks = selected(NETWORKS, options.methods, "method")
        for function, name, width in product(functions, networks, widths):
            field = BEYOND_RIDGES[function]
            variants = []
            for variant, build in networks[name].items():
                generator = torch.Generator().manual_seed(options.seed)
                data, validation, test = field.data(training, generator)
                fitted = fit(
                    lambda build=build, d=field.dimension, w=width: build(d, w),
                    squared_error,
                    minibatches(data, training, generator),
                    validation,
                    training,
                    seed=options.seed,
                )
                with torch.no_grad():
                    error = fitted.ensemble(test[0]) - test[1]
                label = {"function": function, "network": name, "width": width, "variant": variant}
                rows = trials(
                    label,
                    fitted,
                    validation_rmse=(fitted.history.amin(0).sqrt(), ".4e"),
                    rmse=(error.square().mean((1, 2)).sqrt(), ".4e"),
                    largest_error=(error.norm(dim=-1).amax(1), ".4e"),
                )
                variants.append(rows)
            rows = pandas.concat(variants)
            replace_rows(folder / self.file, rows, "function", "network", "width")

    def _best(self, folder: Path) -> DataFrame:
        """The rows of every network's best variant, at each width of each function."""
        cases = (
            self.rows(folder)
            .astype({"width": int})
            .groupby(["function", "network", "width"], sort=False)
        )
        return pandas.concat(best_variant(rows, "variant", "validation_rmse") for _, rows in cases)

    def tables(self, folder: Path) -> list[Table]:
        best = self._best(folder)
        rows = best.pivot_table("rmse", ["function", "network"], "width", sort=False).map(
            "{:.4f}".format
        )
        rows.columns = [f"width {width}" for width in rows.columns]
        widest = best[best["width"] == best["width"].max()]
        largest = (
            widest.groupby(["function", "network"])["largest_error"].mean().map("{:.4f}".format)
        )
        rows["largest error, widest"] = largest
        note = (
            "RMSE over points and components (not in dB), mean over the trials; the largest error is the "
            "largest norm of the error over the test points."
        )
        return [Table(self.description, rows.reset_index(), note)]

    def figures(self, folder: Path) -> list[Figure]:
        return [
            Figure(
                "approximation",
                "Test error against width: mean over the trials and every trial.",
                drawing.error_against_width(self._best(folder)),
            )
        ]
