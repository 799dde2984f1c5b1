"""Optimal coupling of a Gaussian with the standard normal (2023 paper, section 5.2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy
import pandas
import torch
from pandas import DataFrame
from torch import Tensor, nn

from benchmarks.harness.options import Options
from benchmarks.harness.records import read_rows, replace_rows
from benchmarks.harness.registry import Figure, Table, register, selected
from benchmarks.papers import drawing
from benchmarks.papers.ensemble import Training, fit, resampled
from benchmarks.papers.gaussian import (
    Gaussian,
    Mapped,
    classical,
    discrete_cost,
    normal_negative_log_density,
    standard_normal,
)
from benchmarks.papers.networks import AutoregressiveFlow, c_mgn, m_mgn, mgradnet_c, mgradnet_m
from benchmarks.papers.objectives import change_of_variables, jacobian
from benchmarks.papers.trials import Experiment, mean_and_spread, published, replace_column, texts

QUOTED = ("CP-Flow",)

DRAWN_POINTS = 300


def problem(dimension: int) -> Gaussian:
    """The Gaussians of the CP-Flow experiments, which the 2023 paper repeats.

    In two dimensions it is a fixed one, with the published optimal cost of 3.71. In others it is drawn,
    `mean ~ N(0, I)` and `covariance ~ Wishart(d + 1, I)`. The published draw in 16 dimensions is not known;
    of the seeds 0 .. 1999 this one comes closest to its optimal and its whitening cost (211.97, 235.28).
    """
    if dimension == 2:
        return Gaussian(
            torch.tensor([1.5, 1.0], dtype=torch.float64),
            torch.tensor([[0.9, -0.75], [-0.75, 0.9]], dtype=torch.float64),
        )
    random = numpy.random.RandomState(103)
    mean = torch.from_numpy(random.randn(dimension))
    factors = torch.from_numpy(random.randn(dimension + 1, dimension))
    return Gaussian(mean, factors.mT @ factors)


DIMENSIONS = (2, 16)
# learning rates were chosen by the validation objective on other seeds
TRAINING = Training(5, 4000, 250, 1e-2, (50_000, 5_000, 10_000), validations=10)
TINY = Training(2, 20, 50, 1e-2, (1000, 200, 500), validations=10)

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "C-MGN": lambda d: c_mgn(d, 2 * d, 2),
    "M-MGN": lambda d: m_mgn(d, d, 2),
    "mGradNet-C": lambda d: mgradnet_c(d, 2 * d, 2, learned=True),
    "mGradNet-M": lambda d: mgradnet_m(d, d, 2, linear=True),
    "IAF": lambda d: AutoregressiveFlow(d, 4 * d),
}


@register
class Coupling(Experiment):
    """Maps a Gaussian to the standard normal by gradients of convex functions.

    The networks minimise the Kullback-Leibler divergence through the change of variables; among maps
    that are monotone gradients its minimiser is the optimal transport map (Brenier). Reported on
    fresh points: the NLL of the outputs under the standard normal (what the paper's table holds: its
    values lie at the entropy of the standard normal), the divergence, the transport cost
    `E |x - g(x)|^2`, and the squared distance to the optimal map.
    """

    name = "coupling"
    description = "Gaussian optimal coupling: cost and likelihood against the closed-form optimum"

    def run(self, options: Options, folder: Path) -> None:
        training = TINY if options.tiny else TRAINING
        for dimension in DIMENSIONS[: 1 if options.tiny else None]:
            gaussian = problem(dimension)
            generator = torch.Generator().manual_seed(options.seed)
            data, validation, test = (
                gaussian.sample(training.trials, n, generator=generator) for n in training.points
            )
            maps = classical(gaussian, data, test)
            samples = test[0, : test.shape[1] // 5]
            plan = {
                "dimension": dimension,
                "method": f"POT (plan of {len(samples)} samples)",
                "trial": 0,
                "cost": f"{discrete_cost(samples, generator):.5f}",
            }
            rows = pandas.concat(
                [*(_measure(n, gaussian, test, m) for n, m in maps.items()), DataFrame([plan])]
            )
            self._write(folder, rows, {"before": test} | {n: m.points for n, m in maps.items()})
            for name, build in selected(NETWORKS, options.methods, "method").items():
                draws = torch.Generator().manual_seed(options.seed)
                fitted = fit(
                    lambda build=build, d=dimension: build(d),
                    change_of_variables,
                    resampled(data, training, draws),
                    [validation],
                    training,
                    seed=options.seed,
                )
                with torch.no_grad():
                    jacobians = fitted.ensemble.map(jacobian, test).double()
                    points = fitted.ensemble(test).double()
                mapped = Mapped(points, torch.linalg.slogdet(jacobians).logabsdet)
                rows = _measure(name, gaussian, test, mapped).assign(
                    parameters=fitted.ensemble.parameter_count, seconds=f"{fitted.seconds:.1f}"
                )
                self._write(folder, rows, {name: points})

    def _write(self, folder: Path, rows: DataFrame, points: dict[str, Tensor]) -> None:
        """The rows, and in two dimensions the first points of the first trial after every map."""
        replace_rows(folder / self.file, rows, "dimension", "method")
        for name, places in points.items():
            for axis in (0, 1) if places.shape[2] == 2 else ():
                shown = texts(places[0, :DRAWN_POINTS, axis], ".3f")
                replace_column(folder / "points.csv", f"{name} {axis}", shown)

    def tables(self, folder: Path) -> list[Table]:
        trials = self.rows(folder)
        reported = published(self.name)
        note = (
            f"Published: {reported['source']}; CP-Flow is quoted and was not run here. NLL: of the "
            "outputs under the standard normal. An exact coupling has the entropy of the standard normal, "
            "and no map with less transport cost than the optimum is one: published values below either "
            "belong to maps that miss the target slightly, or to few test points (the optimal map itself "
            "is above and below them by its spread here). That leaves the order of the costs: whitening and "
            "IAF, whose Jacobians are triangular, pay what the gradients save. Divergence: KL of the data "
            "from the model, in nats. Distance: E |g(x) - T(x)|^2 / d to the optimal map T. A plan between "
            "samples is no map and overestimates the cost in many dimensions."
        )
        tables = []
        for dimension in trials["dimension"].unique().tolist():
            of_dimension = trials[trials["dimension"] == dimension]
            theirs = reported["rows"].get(dimension, {})
            optimal = reported["optimal"].get(dimension)
            rows = []
            for name in [*of_dimension["method"].unique(), *QUOTED]:
                measured = of_dimension[of_dimension["method"] == name]
                quoted = theirs.get(
                    name, {"cost": optimal} if name == "optimum" and optimal else {}
                )
                rows.append(
                    {
                        "method": f"{name} (quoted)" if measured.empty else name,
                        "NLL": mean_and_spread(measured["nll"], 3),
                        "cost": mean_and_spread(measured["cost"]),
                        "divergence": mean_and_spread(measured["divergence"], 4),
                        "distance": mean_and_spread(measured["distance"], 4),
                        **{
                            f"published {label}": f"{quoted[key]:.2f}" if key in quoted else "-"
                            for label, key in (("NLL", "nll"), ("cost", "cost"))
                        },
                    }
                )
            gaussian = problem(int(dimension))
            optimum = gaussian.squared_distance(standard_normal(gaussian.dimension))
            entropy = int(dimension) / 2 * math.log(2 * math.pi * math.e)
            title = (
                f"d = {dimension}: closed-form optimal cost {optimum:.2f}, entropy of the "
                f"standard normal {entropy:.3f}"
            )
            tables.append(Table(title, DataFrame(rows), note))
        return tables

    def figures(self, folder: Path) -> list[Figure]:
        return [
            Figure(
                "coupling-points",
                "Points before and after transport to the standard normal (d = 2), coloured by their "
                "first coordinate before.",
                drawing.transported_points(read_rows(folder / "points.csv")),
            )
        ]


def _measure(name: str, gaussian: Gaussian, test: Tensor, mapped: Mapped) -> DataFrame:
    nll = normal_negative_log_density(mapped.points)
    columns = {
        "nll": nll,
        "divergence": gaussian.log_density(test) + nll - mapped.log_determinant,
        "cost": (test.double() - mapped.points).square().sum(-1),
        "distance": (mapped.points - gaussian.transport(test)).square().mean(-1),
    }
    label = {"dimension": gaussian.dimension, "method": name, "trial": range(len(test))}
    means = {column: texts(values.mean(1), ".5f") for column, values in columns.items()}
    return DataFrame({**label, **means})
