"""The experiments of the papers: how they train, and a small run of each."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy
import pytest
import torch
from pandas import DataFrame
from torch import Tensor, nn

from benchmarks.harness.markdown import table_lines
from benchmarks.harness.options import Options
from benchmarks.harness.records import read_rows
from benchmarks.harness.registry import Benchmark
from benchmarks.papers import approximation, colour, coupling, gradient_fields, polymax, score
from benchmarks.papers.ensemble import Ensemble, Training, fit, minibatches
from benchmarks.papers.fields import CONVEX
from benchmarks.papers.networks import (
    c_mgn,
    mgradnet_c,
    mgradnet_m,
)
from benchmarks.papers.objectives import squared_error
from benchmarks.papers.trials import best_variant, published
from convexreg.models.config import parameter_count
from tests.tables import over


class TestEnsemble:
    def test_members_are_the_networks_of_their_seeds(self) -> None:
        ensemble = Ensemble(lambda: mgradnet_m(2, 5, 2), [3, 7])
        x = torch.rand(2, 6, 2)
        for index, seed in enumerate((3, 7)):
            torch.manual_seed(seed)
            alone = mgradnet_m(2, 5, 2)
            torch.testing.assert_close(ensemble(x)[index], alone(x[index]))
            torch.testing.assert_close(ensemble.member(index)(x[index]), alone(x[index]))
        assert ensemble.parameter_count == parameter_count(alone)

    def test_trials_do_not_depend_on_their_company(self) -> None:
        x = torch.rand(3, 40, 2)
        y = CONVEX.gradient(x)

        def trained(first: int, last: int) -> Tensor:
            result = fit(
                lambda: c_mgn(2, 4, 2),
                squared_error,
                [[x[first:last], y[first:last]]] * 20,
                [x[first:last], y[first:last]],
                Training(last - first, 20, 40, 1e-2, validations=4, decay=False),
                seed=first,
            )
            return result.ensemble(x[first:last]).detach()

        torch.testing.assert_close(trained(0, 3)[1], trained(1, 2)[0], rtol=1e-4, atol=1e-5)

    def test_the_best_evaluation_is_kept(self) -> None:
        x = torch.rand(2, 30, 2)
        data = [x, CONVEX.gradient(x)]
        result = fit(
            lambda: nn.Linear(2, 2),
            squared_error,
            [data] * 40,
            data,
            Training(2, 40, 30, 3.0, validations=40, decay=False),
            seed=0,
        )
        with torch.no_grad():
            kept = result.ensemble.map(squared_error, *data)
        torch.testing.assert_close(kept, result.history.amin(0))
        assert (result.history[-1] > kept).any()

    def test_batches_cover_every_point_once_an_epoch(self) -> None:
        points = torch.arange(10.0).reshape(1, 10, 1).repeat(2, 1, 1)
        batches = list(
            minibatches([points], Training(2, 4, 5, 1e-2), torch.Generator().manual_seed(0))
        )
        assert len(batches) == 4
        for epoch in (batches[:2], batches[2:]):
            seen = torch.cat([batch[0] for batch in epoch], 1)
            torch.testing.assert_close(seen.sort(1).values, points)


EXPERIMENTS: dict[str, tuple[Benchmark, str]] = {
    "convex-field": (gradient_fields.ConvexField(), "trials.csv"),
    "nonconvex-field": (gradient_fields.NonconvexField(), "trials.csv"),
    "small-field": (gradient_fields.SmallField(), "trials.csv"),
    "polymax": (polymax.PolyMaxField(), "trials.csv"),
    "approximation": (approximation.Approximation(), "trials.csv"),
    "coupling": (coupling.Coupling(), "trials.csv"),
    "colour": (colour.Colour(), "maps.csv"),
    "score": (score.Score(), "trials.csv"),
}


class TestExperiments:
    @over("case", EXPERIMENTS)
    def test_a_small_run_writes_files_tables_and_figures(self, case, tmp_path: Path) -> None:
        experiment, file = case
        experiment.run(Options(tiny=True), tmp_path)
        rows = read_rows(tmp_path / file)
        assert len(rows)
        for table in experiment.tables(tmp_path):
            assert len(table_lines(table).splitlines()) > 4
        for figure in experiment.figures(tmp_path):
            drawn = io.BytesIO()
            figure.canvas.savefig(drawn, format="svg")
            assert b"</svg>" in drawn.getvalue()

    def test_only_the_methods_asked_for_run_and_the_others_stay(self, tmp_path: Path) -> None:
        experiment = gradient_fields.ConvexField()

        def results() -> dict[str, list[str]]:
            rows = read_rows(tmp_path / "trials.csv")
            return {str(name): list(its["rmse"]) for name, its in rows.groupby("network")}

        experiment.run(Options(tiny=True, methods=("C-MGN",)), tmp_path)
        first = results()
        assert first.keys() == {"C-MGN"}
        experiment.run(Options(tiny=True, methods=("ICNN",), seed=5), tmp_path)
        assert results().keys() == {"C-MGN", "ICNN"}
        assert results()["C-MGN"] == first["C-MGN"]
        assert set(read_rows(tmp_path / "errors.csv")) == {"C-MGN", "ICNN"}
        experiment.run(Options(tiny=True, methods=("C-MGN",), seed=5), tmp_path)
        assert results()["C-MGN"] != first["C-MGN"]
        assert len(results()["C-MGN"]) == len(first["C-MGN"])
        with pytest.raises(ValueError, match="there is no method 'CMGN'"):
            experiment.run(Options(tiny=True, methods=("CMGN",)), tmp_path)

    def test_colour_maps_are_monotone_gradients_and_methods_add_up(self, tmp_path: Path) -> None:
        colour.Colour().run(Options(tiny=True, methods=("M-MGN", "POT (linear)")), tmp_path)
        colour.Colour().run(Options(tiny=True, methods=("C-MGN",)), tmp_path)
        rows = read_rows(tmp_path / "maps.csv").set_index("method").astype(float)
        assert set(rows.index) == {"none", "M-MGN", "POT (linear)", "C-MGN"}
        ours = rows.loc[["M-MGN", "C-MGN"]]
        assert (ours["asymmetry"] < 1e-6).all()
        assert (ours["smallest_eigenvalue"] >= 0).all()
        assert (ours["reversed"] == 0).all()

    def test_a_run_is_determined_by_its_seed(self, tmp_path: Path) -> None:
        experiment = gradient_fields.ConvexField()
        results = []
        for seed in (0, 0, 1):
            experiment.run(Options(tiny=True, methods=("mGradNet-C",), seed=seed), tmp_path)
            results.append(list(read_rows(tmp_path / "trials.csv")["rmse"]))
        assert results[0] == results[1] != results[2]

    def test_decibels_of_the_root_are_half_of_those_of_the_square(self, tmp_path: Path) -> None:
        experiment = gradient_fields.NonconvexField()
        experiment.run(Options(tiny=True, methods=("MLP",)), tmp_path)
        rows = read_rows(tmp_path / "trials.csv").astype({"rmse": float})
        decibels = 10 * numpy.log10(rows["rmse"])
        for column, factor in (("rmse_db", 1), ("mse_db", 2)):
            expected = (factor * decibels).tolist()
            assert rows[column].astype(float).tolist() == pytest.approx(expected, abs=1e-2)

    def test_the_best_variant_is_chosen_by_validation(self) -> None:
        rows = DataFrame(
            {"variant": list("aabb"), "validation": ["1", "3", "2.5", "2.5"], "test": [9, 9, 0, 0]}
        )
        assert best_variant(rows, "variant", "validation")["test"].tolist() == [9, 9]


class TestTraining:
    def test_a_cascade_learns_the_convex_field(self) -> None:
        """A short run passes what ICGN reaches in the paper after 200 epochs."""
        generator = torch.Generator().manual_seed(0)
        x = CONVEX.sample(1, 20_000, generator=generator)
        data = [x, CONVEX.gradient(x)]
        training = Training(1, 1200, 500, 5e-3, validations=6, decay=False)
        result = fit(
            lambda: mgradnet_c(2, 7, 4),
            squared_error,
            minibatches(data, training, generator),
            data,
            training,
            seed=0,
        )
        rmse_db = 5 * math.log10(float(result.history.min()))
        assert rmse_db < published("convex-field")["rows"]["ICGN"]["rmse"]
