"""Gradient fields on the unit square: the convex and the nonconvex one (2024 paper, section 7)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmarks.papers import drawing
from benchmarks.papers.ensemble import Ensemble, Fit, fit, minibatches, squared_error
from benchmarks.papers.fields import CONVEX, NONCONVEX, Field, grid
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
    select,
)
from benchmarks.records import read_rows, write_rows
from benchmarks.registry import Benchmark, Figure, Options, Table, register
from convexreg.baselines.icgn import ICGN
from convexreg.baselines.icnn import ICNN
from convexreg.baselines.mlp import MLP, MLPGradient

SCHEDULES = ("constant", "decayed")
"""The published learning rate, 0.005 throughout, and a half-cosine decay of it to zero."""

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


TINY = Settings(
    trials=2, training_points=1000, validation_points=200, test_side=10, epochs=2, batch_size=100
)


def decibels(value: Tensor) -> Tensor:
    """`10 log10`."""
    return 10 * value.log10()


class GradientField(Benchmark):
    """Regression of `grad f` on uniform points, tested on a uniform grid.

    RMSE is the root of the mean over points and components of the squared error, and "RMSE (dB)" is
    `10 log10 RMSE`: half of the MSE in dB. (With `20 log10` the published -24 dB would be an RMSE of
    0.06, which these networks pass in their third epoch.) Every trial has its own training,
    validation and initialisation seeds and ends with the parameters of its best validation epoch.
    """

    field: ClassVar[Field]

    @property
    @abstractmethod
    def networks(self) -> dict[str, Callable[[], nn.Module]]:
        """What is compared, with about 100 parameters each."""

    def run(self, options: Options, folder: Path) -> None:
        settings = TINY if options.tiny else Settings()
        rows: list[dict[str, Any]] = []
        curves: list[dict[str, Any]] = []
        maps: dict[str, list[str]] = {}
        for (name, build), schedule in product(chosen(self.networks, options).items(), SCHEDULES):
            fitted = self._fit(build, settings, schedule, options.seed)
            label = {"network": name, "schedule": schedule}
            error = self._error(fitted.ensemble, settings.test_side)
            rows += [label | row for row in _measure(fitted, error)]
            curves += [
                label | {"epoch": epoch, "validation_mse_db": f"{float(mean):.2f}"}
                for epoch, mean in enumerate(decibels(fitted.history).mean(1), 1)
            ]
            if schedule == "constant":
                middle = error.square().mean((1, 2)).argsort()[settings.trials // 2]
                norms = self._error(fitted.ensemble, MAP_SIDE)[middle].norm(dim=-1)
                maps[name] = [f"{value:.2e}" for value in norms.tolist()]
            write_rows(folder / "trials.csv", rows)
            write_rows(folder / "validation.csv", curves)
        points = zip(*maps.values(), strict=True)
        write_rows(folder / "errors.csv", [dict(zip(maps, row, strict=True)) for row in points])

    def _fit(
        self, build: Callable[[], nn.Module], settings: Settings, schedule: str, seed: int
    ) -> Fit:
        generator = torch.Generator().manual_seed(seed)
        counts = settings.training_points, settings.validation_points
        training, validation = (
            [points, self.field.gradient(points)]
            for points in (
                self.field.sample(settings.trials, count, generator=generator) for count in counts
            )
        )
        epoch = settings.training_points // settings.batch_size
        return fit(
            build,
            squared_error,
            minibatches(
                training,
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                generator=generator,
            ),
            validation,
            trials=settings.trials,
            seed=seed,
            learning_rate=settings.learning_rate,
            validate_every=epoch,
            decay_over=settings.epochs * epoch if schedule == "decayed" else None,
        )

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
            constant, decayed = (select(of_network, schedule=kind) for kind in SCHEDULES)
            theirs = reported["rows"].get(name)
            rows.append(
                {
                    "network": name,
                    "parameters": of_network[0]["parameters"],
                    "RMSE (dB)": mean_and_spread(numbers(constant, "rmse_db")),
                    "MSE (dB)": mean_and_spread(numbers(constant, "mse_db")),
                    "RMSE, decayed rate (dB)": mean_and_spread(numbers(decayed, "rmse_db")),
                    "published parameters": theirs["parameters"] if theirs else "-",
                    "published RMSE (dB)": (
                        f"{theirs['rmse']:.2f} ± {theirs['spread']:.2f}" if theirs else "-"
                    ),
                    "s a trial": f"{numbers(constant, 'seconds')[0]:.0f}",
                }
            )
        note = (
            f"Published: {reported['source']}. RMSE (dB) is 10 log10 of the root mean squared error over "
            "points and components. Published recipe: Adam, learning rate 0.005 throughout; decayed: "
            "the same with a half-cosine decay to zero. Mean ± standard deviation over the trials."
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
                "Validation error during training, mean over the trials: published recipe and decayed rate.",
                drawing.training_curves(read_rows(folder / "validation.csv"), SCHEDULES),
            ),
        ]


def _measure(fitted: Fit, error: Tensor) -> list[dict[str, Any]]:
    mse = error.square().mean((1, 2))
    return [
        {
            "trial": trial,
            "parameters": fitted.ensemble.parameter_count,
            "rmse": f"{float(mse[trial].sqrt()):.4e}",
            "rmse_db": f"{float(decibels(mse[trial].sqrt())):.3f}",
            "mse_db": f"{float(decibels(mse[trial])):.3f}",
            "largest_error": f"{float(error[trial].norm(dim=-1).max()):.4e}",
            "seconds": f"{fitted.seconds:.1f}",
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
            "mGradNet-M": lambda: mgradnet_m(2, 7, 4),
            "C-MGN": lambda: c_mgn(2, 16, 4),
            "M-MGN": lambda: m_mgn(2, 8, 4),
            "ICNN": lambda: ICNN(2, [7, 7]),
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
