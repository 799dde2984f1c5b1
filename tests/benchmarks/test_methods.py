"""Reconstruction methods, their tuning, and the tables of what they reach."""

from __future__ import annotations

import pytest
import torch
from deepinv.optim import TVPrior
from pandas import DataFrame

from benchmarks.harness.records import write_rows
from benchmarks.methods import denoisers, total_variation, wavelets
from benchmarks.methods.report import headline
from benchmarks.methods.summary import summarise
from benchmarks.methods.tuning import coarse_to_fine
from benchmarks.problems.table import PROBLEMS
from benchmarks.pruning import pruned, strengths
from convexreg import ModelConfig, load_model


def _image(height: int = 32, width: int = 32) -> torch.Tensor:
    """A smooth image with an edge."""
    rows, columns = torch.linspace(0, 1, height), torch.linspace(0, 1, width)
    return (0.3 * rows[:, None] + 0.4 * (columns[None] > 0.4)).unsqueeze(0)


def test_primal_dual_total_variation_agrees_with_the_prox():
    measurement = PROBLEMS["noise-25"].measure(_image(), 0, dtype=torch.float64)
    lam = 0.1
    prox = TVPrior(def_crit=1e-10, n_it_max=5000).prox(measurement.y, gamma=lam)
    result = total_variation.primal_dual(measurement, lam)
    assert torch.allclose(result.image, prox, atol=2e-3)

    def energy(x):
        return (x - measurement.y).square().sum() / 2 + lam * TVPrior().fn(x).sum()

    assert abs(energy(result.image) / energy(prox) - 1) < 1e-4


@pytest.mark.parametrize("size", [(32, 32), (33, 41), (16, 19)])
def test_wavelet_threshold_is_a_prox(size):
    """Zero threshold is the identity; the map is nonexpansive; multiples of 8 are orthonormal."""
    x = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(wavelets.soft_threshold(x, 0.0), x, atol=1e-12)
    shrunk = wavelets.soft_threshold(x, 0.3)
    assert float((shrunk - x).norm()) > 0
    if size == (32, 32):
        z = x.flip(-1)
        moved = (shrunk - wavelets.soft_threshold(z, 0.3)).norm()
        assert float(moved) <= float((x - z).norm()) + 1e-12


@pytest.mark.parametrize("target", [0.01, 0.9, 37.0])
def test_tuning_finds_the_best_weight(target):
    visited = []

    def score(weight: float) -> float:
        visited.append(weight)
        return -abs(torch.log(torch.tensor(weight / target)).item())

    trials = coarse_to_fine(score, 1.0)
    assert 1 / 1.05 < trials[0].weight / target < 1.05
    assert len(trials) == len(visited) <= 24
    assert len({f"{weight:.9g}" for weight in visited}) == len(visited)


def test_tuning_survives_failures_and_keeps_to_its_budget():
    trials = coarse_to_fine(lambda weight: float("-inf"), 1.0, budget=5)
    assert len(trials) == 5


def scored(
    method: str, outcome: str = "converged", *, problem: str = "mri", more: float = 0.0
) -> list[dict[str, object]]:
    """Rows of a method on three images; the outcome is that on the first one."""
    row = {"problem": problem, "method": method, "message": None, "weight": "1"}
    numbers = {"evaluations": "9", "certified": "1e-4", "seconds": "0.1"}
    return [
        row
        | numbers
        | {
            "image": str(image),
            "outcome": outcome if image == 0 else "converged",
            "psnr": None if outcome == "failed" and image == 0 else 30 + image + more * (image + 1),
        }
        for image in range(3)
    ]


def test_summary_pairs_differences_and_counts_failures():
    rows = DataFrame(scored("TV") + scored("ours", more=1.0) + scored("fragile", "failed"))
    rows.loc[3, "certified"] = "3e-03"
    summary = (
        summarise(rows).set_index("method").astype(object).where(lambda cell: cell.notna(), "")
    )
    columns = ["psnr", "difference", "difference_error", "certified"]
    assert summary.loc["ours", columns].tolist() == ["33.000", "2.000", "0.577", "3.0e-03"]
    assert summary.loc["TV", "difference"] == ""
    assert summary.loc["fragile", ["psnr", "outcomes"]].tolist() == ["", "failed 1; converged 2"]


def test_results_that_stopped_at_a_limit_are_marked(tmp_path):
    rows = summarise(DataFrame(scored("a") + scored("b", "iteration limit")))
    write_rows(tmp_path / "summary.csv", rows)
    (table,) = headline(tmp_path, "physics")
    assert list(table.rows["mri"]) == ["31.00", "31.00*"]
    assert "With a star" in table.note
    write_rows(tmp_path / "summary.csv", rows[:1])
    assert "star" not in headline(tmp_path, "physics")[0].note


def test_short_tables_have_paired_differences(tmp_path):
    """To the published model where it has results; the standard error of 1, 2, 3 dB is 1 / sqrt(3)."""
    rows = scored("crr", problem="noise-5") + scored("mine", problem="noise-5", more=1.0)
    write_rows(tmp_path / "summary.csv", summarise(DataFrame(rows)))
    (table,) = headline(tmp_path, "denoising")
    assert list(table.rows["noise-5"]) == ["31.00", "33.00 (+2.000 ± 0.577)"]
    assert table.note.endswith("to crr.")  # no dashes to explain
    published = "crr_deq_multinoise (published)"
    rows += scored("mine", problem="noise-25") + scored(published, problem="noise-25", more=1.0)
    write_rows(tmp_path / "summary.csv", summarise(DataFrame(rows)))
    (table,) = headline(tmp_path, "denoising")
    by_method = dict(zip(table.rows["method"], table.rows["noise-25"], strict=True))
    assert by_method == {"crr": "-", "mine": "31.00 (-2.000 ± 0.577)", published: "33.00"}
    baselines, dash = (
        f"to crr (noise-5) or {published} (noise-25).",
        "A dash: not run, or not made for",
    )
    assert table.note.endswith(f"{baselines} {dash} that noise level.")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("method", [denoisers.block_matching, denoisers.nonlocal_means])
def test_denoisers_take_gray_and_colour_and_remove_noise(method, channels):
    measurement = PROBLEMS["noise-25"].measure(_image().repeat(channels, 1, 1), 0)
    restored = method(measurement, 1.0).image
    assert restored.shape == measurement.y.shape
    assert measurement.psnr(restored) > measurement.psnr(measurement.y) + 3


@pytest.mark.parametrize("name", ["crr", "mgradnet-m"])
def test_a_pruned_model_is_what_is_left_of_the_sum(name):
    """The front of cost against quality: groups add up, and all of them are the model."""
    model = load_model(name)
    whole = model.regularizer
    measurement = PROBLEMS["noise-25"].measure(_image(), 0)
    x, sigma = measurement.y, measurement.sigma
    strength = strengths(whole, [measurement])
    count = len(strength)
    assert count == whole.network.terms
    every = pruned(model, strength, count)
    torch.testing.assert_close(every.grad(x, sigma), whole.grad(x, sigma))
    strong, weak = pruned(model, strength, 20), pruned(model, -strength, count - 20)
    assert strong.convex
    torch.testing.assert_close(strong.grad(x, sigma) + weak.grad(x, sigma), whole.grad(x, sigma))
    assert strong.grad(x, sigma).norm() > weak.grad(x, sigma).norm()


def test_only_groups_of_their_own_are_pruned():
    model = ModelConfig("mgradnet-c", channels=(1, 4, 8), kernel_sizes=(5, 5)).build("cascade")
    with pytest.raises(ValueError, match="filters of cascade do not come in groups"):
        strengths(model, [])
