"""Optimal coupling of a Gaussian with the standard normal (2023 paper, section 5.2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from benchmarks.harness.records import read_rows
from benchmarks.harness.options import Options
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from benchmarks.papers import drawing
from benchmarks.papers.ensemble import fit, resampled
from benchmarks.papers.gaussian import Gaussian, normal_negative_log_density, standard_normal
from benchmarks.papers.networks import AutoregressiveFlow, c_mgn, m_mgn, mgradnet_c, mgradnet_m
from benchmarks.papers.objectives import change_of_variables, jacobian
from benchmarks.papers.transport import Mapped, classical, discrete_cost
from benchmarks.papers.trials import (
    distinct,
    mean_and_spread,
    numbers,
    published,
    replace_column,
    replace_rows,
    select,
)

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


@dataclass(frozen=True)
class Settings:
    """Of the training; learning rates were chosen by the validation objective on other seeds."""

    dimensions: tuple[int, ...] = (2, 16)
    trials: int = 5
    training_points: int = 50_000
    validation_points: int = 5_000
    test_points: int = 10_000
    steps: int = 4000
    batch_size: int = 250
    learning_rate: float = 1e-2
    discrete_points: int = 2000


TINY = Settings(
    dimensions=(2,),
    trials=2,
    training_points=1000,
    validation_points=200,
    test_points=500,
    steps=20,
    batch_size=50,
    discrete_points=100,
)

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "C-MGN": lambda d: c_mgn(d, 2 * d, 2),
    "M-MGN": lambda d: m_mgn(d, d, 2),
    "mGradNet-C": lambda d: mgradnet_c(d, 2 * d, 2, learned=True),
    "mGradNet-M": lambda d: mgradnet_m(d, d, 2, linear=True),
    "IAF": lambda d: AutoregressiveFlow(d, 4 * d),
}


@register
class Coupling(Benchmark):
    """Maps a Gaussian to the standard normal by gradients of convex functions.

    The networks minimise the Kullback-Leibler divergence through the change of variables; among maps
    that are monotone gradients its minimiser is the optimal transport map (Brenier). Reported on
    fresh points: the NLL of the outputs under the standard normal (what the paper's table holds: its
    values lie at the entropy of the standard normal), the divergence, the transport cost
    `E |x - g(x)|^2`, and the squared distance to the optimal map.
    """

    name = "coupling"
    description = "Gaussian optimal coupling: cost and likelihood against the closed-form optimum"
    restricted_by = ("methods",)

    def run(self, options: Options, folder: Path) -> None:
        settings = TINY if options.tiny else Settings()
        rows: list[dict[str, Any]] = []
        for dimension in settings.dimensions:
            gaussian = problem(dimension)
            generator = torch.Generator().manual_seed(options.seed)
            counts = settings.training_points, settings.validation_points, settings.test_points
            training, validation, test = (
                gaussian.sample(settings.trials, count, generator=generator) for count in counts
            )
            maps = classical(gaussian, training, test)
            rows = [row for name in maps for row in _measure(name, gaussian, test, maps[name])]
            samples = test[0, : settings.discrete_points]
            rows.append(
                {
                    "dimension": dimension,
                    "method": f"POT (plan of {len(samples)} samples)",
                    "trial": 0,
                    "cost": f"{discrete_cost(samples, generator):.5f}",
                }
            )
            self._write(folder, rows, {"before": test} | {n: m.points for n, m in maps.items()})
            for name, build in selected(NETWORKS, options.methods, "method").items():
                fitted = fit(
                    lambda build=build, d=dimension: build(d),
                    change_of_variables,
                    resampled(
                        training,
                        steps=settings.steps,
                        batch_size=settings.batch_size,
                        generator=torch.Generator().manual_seed(options.seed),
                    ),
                    [validation],
                    trials=settings.trials,
                    seed=options.seed,
                    learning_rate=settings.learning_rate,
                    validate_every=max(settings.steps // 10, 1),
                    decay_over=settings.steps,
                )
                with torch.no_grad():
                    jacobians = fitted.ensemble.map(jacobian, test).double()
                    points = fitted.ensemble(test).double()
                mapped = Mapped(points, torch.linalg.slogdet(jacobians).logabsdet)
                cost = {
                    "parameters": fitted.ensemble.parameter_count,
                    "seconds": f"{fitted.seconds:.1f}",
                }
                rows = [row | cost for row in _measure(name, gaussian, test, mapped)]
                self._write(folder, rows, {name: points})

    def _write(self, folder: Path, rows: list[dict[str, Any]], points: dict[str, Tensor]) -> None:
        """The rows, and in two dimensions the first points of the first trial after every map."""
        replace_rows(folder / "trials.csv", rows, "dimension", "method")
        for name, places in points.items():
            for axis in (0, 1) if places.shape[2] == 2 else ():
                shown = [f"{value:.3f}" for value in places[0, :DRAWN_POINTS, axis].tolist()]
                replace_column(folder / "points.csv", f"{name} {axis}", shown)

    def tables(self, folder: Path) -> list[Table]:
        trials = read_rows(folder / "trials.csv")
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
        for dimension in distinct(trials, "dimension"):
            of_dimension = select(trials, dimension=dimension)
            theirs = reported["rows"].get(dimension, {})
            rows = []
            for name in [*distinct(of_dimension, "method"), *QUOTED]:
                measured = select(of_dimension, method=name)
                quoted = theirs.get(name)
                rows.append(
                    {
                        "method": name if measured else f"{name} (quoted)",
                        "NLL": mean_and_spread(numbers(measured, "nll"), 3),
                        "cost": mean_and_spread(numbers(measured, "cost")),
                        "divergence": mean_and_spread(numbers(measured, "divergence"), 4),
                        "distance": mean_and_spread(numbers(measured, "distance"), 4),
                        "published NLL": f"{quoted['nll']:.2f}" if quoted else "-",
                        "published cost": (
                            f"{quoted['cost']:.2f}"
                            if quoted
                            else f"{reported['optimal'][dimension]:.2f}"
                            if name == "optimum" and dimension in reported["optimal"]
                            else "-"
                        ),
                    }
                )
            gaussian = problem(int(dimension))
            optimum = gaussian.squared_distance(standard_normal(gaussian.dimension))
            entropy = int(dimension) / 2 * math.log(2 * math.pi * math.e)
            title = (
                f"d = {dimension}: closed-form optimal cost {optimum:.2f}, entropy of the "
                f"standard normal {entropy:.3f}"
            )
            tables.append(Table(title, rows, note))
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


def _measure(name: str, gaussian: Gaussian, test: Tensor, mapped: Mapped) -> list[dict[str, Any]]:
    nll = normal_negative_log_density(mapped.points)
    columns = {
        "nll": nll,
        "divergence": gaussian.log_density(test) + nll - mapped.log_determinant,
        "cost": (test.double() - mapped.points).square().sum(-1),
        "distance": (mapped.points - gaussian.transport(test)).square().mean(-1),
    }
    means = {column: values.mean(1).tolist() for column, values in columns.items()}
    return [
        {"dimension": gaussian.dimension, "method": name, "trial": trial}
        | {column: f"{values[trial]:.5f}" for column, values in means.items()}
        for trial in range(len(test))
    ]
