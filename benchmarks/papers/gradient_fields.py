"""Gradient fields on the unit square: the convex and the nonconvex one (2024 paper, section 7)."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmarks.papers import drawing
from benchmarks.papers.ensemble import (
    Ensemble,
    Network,
    absolute_error,
    fit,
    minibatches,
    squared_error,
)
from benchmarks.papers.fields import CONVEX, NONCONVEX, Field, grid
from benchmarks.papers.levenberg import refine
from benchmarks.papers.networks import (
    c_mgn,
    gradnet_c,
    gradnet_m,
    m_mgn,
    mgradnet_c,
    mgradnet_m,
    ridge,
)
from benchmarks.papers.trials import (
    chosen,
    distinct,
    mean_and_spread,
    numbers,
    published,
    replace_column,
    replace_rows,
    select,
)
from benchmarks.records import read_rows
from benchmarks.registry import Benchmark, Figure, Options, Table, register
from convexreg.baselines.icgn import ICGN
from convexreg.baselines.icnn import ICNN
from convexreg.baselines.mlp import MLP, MLPGradient

MAP_SIDE = 41


@dataclass(frozen=True)
class Settings:
    """Of one training run; the defaults are those of the 2024 paper."""

    trials: int = 5
    training_points: int = 100_000
    validation_points: int = 10_000
    test_side: int = 100
    epochs: int = 200
    batch_size: int = 1000
    learning_rate: float = 5e-3
    refinement_points: int = 2000
    refinement_iterations: int = 500


TINY = Settings(
    trials=2,
    training_points=1000,
    validation_points=200,
    test_side=10,
    epochs=2,
    batch_size=100,
    refinement_points=50,
    refinement_iterations=2,
)


def decibels(value: Tensor) -> Tensor:
    """`10 log10`."""
    return 10 * value.log10()


class GradientField(Benchmark):
    """Regression of `grad f` on uniform points, tested on a uniform grid.

    First the published recipe: Adam at a constant learning rate, every trial ending with the parameters
    of its best validation epoch. It stops far from the best these networks can do, so that a second
    stage goes on to convergence by Levenberg-Marquardt and compares what the networks can express.

    RMSE is the root of the mean over points and components of the squared error, and "RMSE (dB)" is
    `10 log10 RMSE`: half of the MSE in dB. (With `20 log10` the published -24 dB would be an RMSE of
    0.06, which these networks pass in their third epoch.) Every trial has its own seeds.
    """

    field: ClassVar[Field]
    objective: ClassVar[Callable[[Network, Tensor, Tensor], Tensor]] = staticmethod(squared_error)

    @property
    @abstractmethod
    def networks(self) -> dict[str, Callable[[], nn.Module]]:
        """What is compared."""

    def run(self, options: Options, folder: Path) -> None:
        settings = TINY if options.tiny else Settings()
        for name, build in chosen(self.networks, options).items():
            generator = torch.Generator().manual_seed(options.seed)
            counts = settings.training_points, settings.validation_points
            training, validation = (
                [points, self.field.gradient(points)]
                for points in (
                    self.field.sample(settings.trials, count, generator=generator)
                    for count in counts
                )
            )
            fitted = fit(
                build,
                self.objective,
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
            )
            ensemble = fitted.ensemble
            error = self._error(ensemble, settings.test_side)
            rows = _measure(name, "Adam", ensemble, error, fitted.seconds)
            curve = [
                {"network": name, "epoch": epoch, "validation_db": f"{float(mean):.2f}"}
                for epoch, mean in enumerate(decibels(fitted.history).mean(1), 1)
            ]
            middle = error.square().mean((1, 2)).argsort()[settings.trials // 2]
            norms = self._error(ensemble, MAP_SIDE)[middle].norm(dim=-1)
            errors = [f"{value:.2e}" for value in norms.tolist()]
            started = time.perf_counter()
            refine(
                ensemble,
                *(tensor[:, : settings.refinement_points] for tensor in training),
                iterations=settings.refinement_iterations,
            )
            seconds = (time.perf_counter() - started) / settings.trials
            error = self._error(ensemble, settings.test_side)
            rows += _measure(name, "refined", ensemble, error, seconds)
            replace_rows(folder / "trials.csv", rows, "network")
            replace_rows(folder / "validation.csv", curve, "network")
            replace_column(folder / "errors.csv", name, errors)

    def _error(self, ensemble: Ensemble, side: int) -> Tensor:
        """On a uniform grid, `(T, side^2, 2)`."""
        points = grid(side).expand(len(ensemble), -1, -1)
        with torch.no_grad():
            return ensemble(points) - self.field.gradient(points)

    def tables(self, folder: Path) -> list[Table]:
        trials = read_rows(folder / "trials.csv")
        reported = published(self.name)
        rows = []
        for name in distinct(trials, "network"):
            of_network = select(trials, network=name)
            adam, refined = (select(of_network, training=stage) for stage in ("Adam", "refined"))
            theirs = reported["rows"].get(name)
            rows.append(
                {
                    "network": name,
                    "parameters": of_network[0]["parameters"],
                    "RMSE (dB)": mean_and_spread(numbers(adam, "rmse_db")),
                    "MSE (dB)": mean_and_spread(numbers(adam, "mse_db")),
                    "RMSE, refined (dB)": mean_and_spread(numbers(refined, "rmse_db")),
                    "published parameters": (theirs and theirs["parameters"]) or "-",
                    "published RMSE (dB)": _published_rmse(theirs) if theirs else "-",
                    "s a trial": (
                        f"{numbers(adam, 'seconds')[0]:.0f} + {numbers(refined, 'seconds')[0]:.0f}"
                    ),
                }
            )
        note = (
            f"Published: {reported['source']}. RMSE (dB) is 10 log10 of the root mean squared error over "
            "points and components. First by Adam, learning rate 0.005 throughout 200 epochs; refined: "
            "followed by Levenberg-Marquardt. Mean ± standard deviation over the trials."
        )
        return [Table(self.description, rows, note)]

    def figures(self, folder: Path) -> list[Figure]:
        return [
            Figure(
                f"{self.name}-quiver",
                "The function (contours) and its gradient (arrows, coloured by norm).",
                drawing.quiver(self.field),
            ),
            Figure(
                f"{self.name}-errors",
                "Norm of the error in the median trial, published recipe.",
                drawing.error_maps(read_rows(folder / "errors.csv"), MAP_SIDE),
            ),
            Figure(
                f"{self.name}-training",
                "Loss on the validation points during Adam, mean over the trials.",
                drawing.training_curves(read_rows(folder / "validation.csv")),
            ),
        ]


def _published_rmse(entry: Mapping[str, float]) -> str:
    if "rmse" in entry:
        return f"{entry['rmse']:.2f} ± {entry['spread']:.2f}"
    return f"{entry['mse'] / 2:.2f}"


def _measure(
    name: str, training: str, ensemble: Ensemble, error: Tensor, seconds: float
) -> list[dict[str, Any]]:
    mse = error.square().mean((1, 2))
    return [
        {
            "network": name,
            "training": training,
            "trial": trial,
            "parameters": ensemble.parameter_count,
            "rmse": f"{float(mse[trial].sqrt()):.4e}",
            "rmse_db": f"{float(decibels(mse[trial].sqrt())):.3f}",
            "mse_db": f"{float(decibels(mse[trial])):.3f}",
            "largest_error": f"{float(error[trial].norm(dim=-1).max()):.4e}",
            "seconds": f"{seconds:.1f}",
        }
        for trial in range(len(error))
    ]


@register
class ConvexField(GradientField):
    """The convex field, learned by monotone networks and their peers."""

    name = "convex-field"
    description = "Gradient of a convex function of two variables, seven networks of 100 parameters"
    field = CONVEX

    @property
    def networks(self) -> dict[str, Callable[[], nn.Module]]:
        return {
            "mGradNet-C": lambda: mgradnet_c(2, 7, 4),
            "mGradNet-C, learned activation": lambda: mgradnet_c(2, 8, 2, learned=True),
            "mGradNet-M": lambda: mgradnet_m(2, 7, 4),
            "C-MGN": lambda: c_mgn(2, 16, 4),
            "M-MGN": lambda: m_mgn(2, 8, 4),
            "ICNN": lambda: ICNN(2, [7, 7]),
            "ICNN, clipped": lambda: ICNN(2, [7, 7], clipped=True),
            "ICGN": lambda: ICGN(2, 32),
            "CRR": lambda: ridge(2, 11, limit=0.5, monotone=True),
        }


@register
class NonconvexField(GradientField):
    """The nonconvex field."""

    name = "nonconvex-field"
    description = "Gradient of a nonconvex function of two variables, networks of 100 parameters"
    field = NONCONVEX

    @property
    def networks(self) -> dict[str, Callable[[], nn.Module]]:
        return {
            "GradNet-C": lambda: gradnet_c(2, 7, 4),
            "GradNet-M": lambda: gradnet_m(2, 7, 4),
            "MLP": lambda: MLP([2, 20, 2]),
            "MLP gradient": lambda: MLPGradient(2, [8, 8]),
            "ridge": lambda: ridge(2, 11, limit=0.5, monotone=False),
        }


@register
class SmallField(GradientField):
    """The convex field by the much smaller networks of the 2023 paper, trained on the absolute error."""

    name = "small-field"
    description = "Gradient of the convex function by the small networks of the 2023 paper"
    field = CONVEX
    objective = staticmethod(absolute_error)

    @property
    def networks(self) -> dict[str, Callable[[], nn.Module]]:
        return {
            "C-MGN": lambda: c_mgn(2, 2, 2),
            "M-MGN": lambda: m_mgn(2, 3, 1),
            "ICNN": lambda: ICNN(2, [9, 10]),
            "ICNN, small": lambda: ICNN(2, [6, 6]),
            "ICGN": lambda: ICGN(2, 5),
        }
