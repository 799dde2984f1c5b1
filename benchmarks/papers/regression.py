"""Regression of a gradient field on the unit square (2024 paper, section 7)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pandas
import torch
from pandas import DataFrame
from torch import Tensor, nn

from benchmarks.harness.options import Options
from benchmarks.harness.records import read_rows, replace_rows
from benchmarks.harness.registry import Figure, Table, selected
from benchmarks.papers import drawing
from benchmarks.papers.ensemble import Ensemble, Fit, Network, Training, fit, minibatches
from benchmarks.papers.fields import Field, grid
from benchmarks.papers.levenberg import refine
from benchmarks.papers.objectives import squared_error
from benchmarks.papers.trials import (
    Experiment,
    mean_and_spread,
    published,
    replace_column,
    texts,
    trials,
)

MAP_SIDE = 41


TEST_SIDE, REFINEMENT_POINTS, REFINEMENT_ITERATIONS = 100, 2000, 500
# those of the 2024 paper, which validates every epoch
TRAINING = Training(5, 20_000, 1000, 5e-3, (100_000, 10_000), validations=200, decay=False)
TINY = Training(2, 20, 100, 5e-3, (1000, 200), validations=2, decay=False)

Networks = Mapping[str, Callable[[], nn.Module]]


def decibels(value: Tensor) -> Tensor:
    """`10 log10`."""
    return 10 * value.log10()


class GradientField(Experiment):
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
    networks: ClassVar[Networks]
    remarks: ClassVar[str]
    """What differs from the published table, and why."""

    def run(self, options: Options, folder: Path) -> None:
        training = TINY if options.tiny else TRAINING
        for name, build in selected(self.networks, options.methods, "method").items():
            generator = torch.Generator().manual_seed(options.seed)
            data, validation = self.field.data(training, generator)
            batches = minibatches(data, training, generator)
            fitted = fit(build, self.objective, batches, validation, training, seed=options.seed)
            ensemble = fitted.ensemble
            error = self._error(ensemble, TEST_SIDE)
            rows = _measure(name, "Adam", fitted, error)
            losses = decibels(fitted.history).mean(1)
            curve = {"epoch": range(1, len(losses) + 1), "validation_db": texts(losses, ".2f")}
            middle = error.square().mean((1, 2)).argsort()[training.trials // 2]
            norms = self._error(ensemble, MAP_SIDE)[middle].norm(dim=-1)
            # a network may be exact at a point, the origin for ICGN
            errors = texts(decibels(norms.clamp_min(1e-6)), ".1f")
            started = time.perf_counter()
            refine(
                ensemble,
                *(tensor[:, :REFINEMENT_POINTS] for tensor in data),
                iterations=2 if options.tiny else REFINEMENT_ITERATIONS,
            )
            refined = replace(fitted, seconds=(time.perf_counter() - started) / training.trials)
            error = self._error(ensemble, TEST_SIDE)
            rows = pandas.concat([rows, _measure(name, "refined", refined, error)])
            replace_rows(folder / self.file, rows, "network")
            curve = DataFrame({"network": name, **curve})
            replace_rows(folder / "validation.csv", curve, "network")
            replace_column(folder / "errors.csv", name, errors)

    def _error(self, ensemble: Ensemble, side: int) -> Tensor:
        """On a uniform grid, `(T, side^2, 2)`."""
        points = grid(side).expand(len(ensemble), -1, -1)
        with torch.no_grad():
            return ensemble(points) - self.field.gradient(points)

    def tables(self, folder: Path) -> list[Table]:
        saved = self.rows(folder)
        reported = published(self.name)
        rows = []
        for name in self.networks:
            of_network = saved[saved["network"] == name]
            if of_network.empty:
                continue
            adam, refined = (of_network[of_network["training"] == s] for s in ("Adam", "refined"))
            seconds = [float(rows["seconds"].iloc[0]) for rows in (adam, refined)]
            theirs = reported["rows"].get(name)
            rows.append(
                {
                    "network": name,
                    "parameters": of_network["parameters"].iloc[0],
                    "RMSE (dB)": mean_and_spread(adam["rmse_db"]),
                    "MSE (dB)": mean_and_spread(adam["mse_db"]),
                    "RMSE, refined (dB)": mean_and_spread(refined["rmse_db"]),
                    "published parameters": (theirs and theirs["parameters"]) or "-",
                    "published RMSE (dB)": _published_rmse(theirs) if theirs else "-",
                    "s a trial": f"{seconds[0]:.0f} + {seconds[1]:.0f}",
                }
            )
        note = (
            f"Published: {reported['source']}. RMSE (dB) is 10 log10 of the root mean squared error over "
            "points and components. First by Adam, learning rate 0.005 throughout 200 epochs; refined: "
            "followed by Levenberg-Marquardt. Mean ± standard deviation over the trials. Seconds: of all "
            f"trials together, divided by their number. {self.remarks}"
        )
        return [Table(self.description, DataFrame(rows), note)]

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
        errors = read_rows(folder / "errors.csv")
        if len(errors):
            maps = drawing.error_maps(errors, list(self.networks), MAP_SIDE)
            caption = "Norm of the error (10 log10) in the median trial, published recipe."
            figures.append(Figure(f"{self.name}-errors", caption, maps))
        return figures


def _published_rmse(entry: Mapping[str, float]) -> str:
    if "rmse" in entry:
        return f"{entry['rmse']:.2f} ± {entry['spread']:.2f}"
    return f"{entry['mse'] / 2:.2f}"


def _measure(name: str, training: str, fitted: Fit, error: Tensor) -> DataFrame:
    mse = error.square().mean((1, 2))
    return trials(
        {"network": name, "training": training},
        fitted,
        rmse=(mse.sqrt(), ".4e"),
        rmse_db=(decibels(mse.sqrt()), ".3f"),
        mse_db=(decibels(mse), ".3f"),
        largest_error=(error.norm(dim=-1).amax(1), ".4e"),
    )
