"""Regression of a gradient field on the unit square (2024 paper, section 7)."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmarks.harness.records import read_rows
from benchmarks.harness.options import Options
from benchmarks.harness.registry import Benchmark, Figure, Table, selected
from benchmarks.papers import drawing
from benchmarks.papers.ensemble import Ensemble, Network, fit, minibatches
from benchmarks.papers.fields import Field, grid
from benchmarks.papers.levenberg import refine
from benchmarks.papers.objectives import squared_error
from benchmarks.papers.trials import (
    mean_and_spread,
    numbers,
    published,
    replace_column,
    replace_rows,
    select,
)

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
    restricted_by = ("methods",)
    remarks: ClassVar[str]
    """What differs from the published table, and why."""

    @property
    @abstractmethod
    def networks(self) -> dict[str, Callable[[], nn.Module]]:
        """What is compared."""

    def run(self, options: Options, folder: Path) -> None:
        settings = TINY if options.tiny else Settings()
        for name, build in selected(self.networks, options.methods, "method").items():
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
            # a network may be exact at a point, the origin for ICGN
            errors = [f"{value:.1f}" for value in decibels(norms.clamp_min(1e-6)).tolist()]
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
        for name in self.networks:
            of_network = select(trials, network=name)
            if not of_network:
                continue
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
            "followed by Levenberg-Marquardt. Mean ± standard deviation over the trials. Seconds: of all "
            f"trials together, divided by their number. {self.remarks}"
        )
        return [Table(self.description, rows, note)]

    def figures(self, folder: Path) -> list[Figure]:
        figures = [
            Figure(
                f"{self.name}-quiver",
                "The function (contours) and its gradient (arrows, coloured by norm).",
                drawing.quiver(self.field),
            ),
            Figure(
                f"{self.name}-training",
                "Loss on the validation points during Adam, mean over the trials.",
                drawing.training_curves(read_rows(folder / "validation.csv")),
            ),
        ]
        # the largest of the files, which may be left out of what is committed
        if errors := read_rows(folder / "errors.csv"):
            maps = drawing.error_maps(errors, list(self.networks), MAP_SIDE)
            caption = "Norm of the error (10 log10) in the median trial, published recipe."
            figures.append(Figure(f"{self.name}-errors", caption, maps))
        return figures


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
