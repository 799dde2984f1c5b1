"""Gradient fields in many dimensions: the PolyMax field, modular against cascaded networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from pandas import DataFrame
from torch import Tensor, nn

from benchmarks.harness.options import Options
from benchmarks.harness.records import replace_rows
from benchmarks.harness.registry import Figure, Table, register, selected
from benchmarks.papers import drawing
from benchmarks.papers.baselines import ICNN
from benchmarks.papers.ensemble import Training, fit
from benchmarks.papers.fields import PolyMax
from benchmarks.papers.networks import mgradnet_c, mgradnet_m
from benchmarks.papers.objectives import relative_error
from benchmarks.papers.trials import Experiment, best_variant, mean_and_spread, published, trials

LEARNING_RATES = (1e-2, 1e-3, 1e-4)


# by dimension, the published ones; the number of trials, which is not, follows the cost
USUAL = Training(1, 10_000, 100, LEARNING_RATES[0], (2000,), decay=False)
TRAINING = {32: replace(USUAL, trials=3), 256: USUAL}
TINY = {8: replace(USUAL, trials=2, steps=10, batch_size=20, points=(50,))}

# About 1024 parameters for every dimension of the space.
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "mGradNet-C": lambda d: mgradnet_c(d, 1024 * d // (d + 6), 2),
    "mGradNet-M": lambda d: mgradnet_m(d, 256 * d // (d + 1), 4),
    "mGradNet-M (temperature 1/16)": lambda d: mgradnet_m(
        d, 256 * d // (d + 1), 4, temperature=1 / 16
    ),
    "ICNN": lambda d: ICNN(d, _icnn_widths(d)),
}


def _icnn_widths(dimension: int) -> list[int]:
    """Two equal layers: `h^2 + 2 h (d + 1)` parameters and a few."""
    half = dimension + 1.5
    width = int((half**2 + 1024 * dimension) ** 0.5 - half)
    return [width, width]


def _batches(
    polymax: PolyMax, training: Training, generator: torch.Generator
) -> Iterator[list[Tensor]]:
    shape = (training.trials, training.batch_size, polymax.dimension)
    for _ in range(training.steps):
        x = torch.rand(*shape, generator=generator)
        yield [x, polymax.gradient(x)]


@register
class PolyMaxField(Experiment):
    """Regression of the PolyMax field on fresh uniform points.

    Every network is trained with each of three learning rates; the one with the lowest validation
    error is the one that counts. MSE is the mean squared norm of the error, for a field of mean norm one.
    Problems are dimensions: the published 1024 takes a day on a core and runs only when asked for.
    """

    name = "polymax"
    description = "Gradient of a maximum of quadratic forms in 32 and 256 dimensions"
    restricted_by = ("methods", "problems")

    def run(self, options: Options, folder: Path) -> None:
        usual = TINY if options.tiny else TRAINING
        networks = selected(NETWORKS, options.methods, "method")
        for dimension in [int(problem) for problem in options.problems] or usual:
            polymax = PolyMax(dimension)
            for name, rate in product(networks, LEARNING_RATES):
                training = replace(usual.get(dimension, USUAL), learning_rate=rate)
                generator = torch.Generator().manual_seed(options.seed)
                shape = (training.trials, *training.points, dimension)
                held_out = torch.rand(2, *shape, generator=generator)
                validation, test = ([points, polymax.gradient(points)] for points in held_out)
                fitted = fit(
                    lambda build=networks[name], d=dimension: build(d),
                    relative_error,
                    _batches(polymax, training, generator),
                    validation,
                    training,
                    seed=options.seed,
                )
                with torch.no_grad():
                    mse = fitted.ensemble.map(relative_error, *test)
                label = {"dimension": dimension, "network": name, "learning_rate": rate}
                rows = trials(
                    label,
                    fitted,
                    validation_mse_db=(10 * fitted.history.amin(0).log10(), ".3f"),
                    mse_db=(10 * mse.log10(), ".3f"),
                )
                replace_rows(folder / self.file, rows, *label)

    def tables(self, folder: Path) -> list[Table]:
        reported = published(self.name)
        rows = []
        for (dimension, name), of_network in self.rows(folder).groupby(
            ["dimension", "network"], sort=False
        ):
            best = best_variant(of_network, "learning_rate", "validation_mse_db")
            theirs = reported["rows"].get(dimension, {}).get(str(name).partition(" (")[0])
            rows.append(
                {
                    "d": dimension,
                    "network": name,
                    "parameters": best["parameters"].iloc[0],
                    "learning rate": best["learning_rate"].iloc[0],
                    "MSE (dB)": mean_and_spread(best["mse_db"]),
                    "published MSE (dB)": f"{theirs:.2f}" if theirs else "-",
                    "s a trial": f"{float(best['seconds'].iloc[0]):.0f}",
                }
            )
        note = (
            "MSE is 10 log10 of the mean squared norm of the error for a field of mean norm one. The "
            "learning rate, of 0.01, 0.001 and 0.0001, is the one with the lowest validation error. One "
            "step of Adam moves the arguments of a softmax in proportion to the dimension, so that the "
            "temperature that is best in few dimensions makes training unstable in many."
        )
        return [Table(self.description, DataFrame(rows), note)]

    def figures(self, folder: Path) -> list[Figure]:
        return [
            Figure(
                "polymax",
                "Test error on the PolyMax field for every learning rate, all trials.",
                drawing.rate_sweep(self.rows(folder)),
            )
        ]
