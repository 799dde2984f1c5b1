"""The parts of the benchmark harness, against what is known by hand or by another route."""

from __future__ import annotations

import time

import pytest
import torch
from deepinv.optim import TVPrior

from benchmarks.candidates import CANDIDATES, Dilated, inherit
from benchmarks.harness.clock import Clock
from benchmarks.harness.datasets import DATASETS, centre, open_images
from benchmarks.harness.markdown import environment_line
from benchmarks.harness.outcome import Outcome, outcome_of
from benchmarks.harness.records import write_rows
from benchmarks.harness.options import Options
from benchmarks.methods.summary import summarise
from benchmarks.methods.tuning import coarse_to_fine
from benchmarks.methods import total_variation, wavelets
from benchmarks.problems.table import PROBLEMS
from benchmarks.solvers.profile import performance_profile
from benchmarks.methods.report import headline
from convexreg.models.files import open_model
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers import Status


def _image(height: int = 32, width: int = 32) -> torch.Tensor:
    """A smooth image with an edge."""
    rows, columns = torch.linspace(0, 1, height), torch.linspace(0, 1, width)
    return (0.3 * rows[:, None] + 0.4 * (columns[None] > 0.4)).unsqueeze(0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_operators_are_what_they_claim(name):
    """The adjoint is exact, the bound on the norm holds, the noise is that of the protocol."""
    problem = PROBLEMS[name]
    measurement = problem.measure(_image(), 3, dtype=torch.float64)
    physics, y = measurement.forward.physics, measurement.y
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 32, 32, generator=generator, dtype=torch.float64)
    z = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    left, right = (physics.A(x) * z).sum(), (x * physics.A_adjoint(z)).sum()
    assert torch.isclose(left, right, rtol=1e-9)
    for _ in range(50):
        x = physics.A_adjoint(physics.A(x / x.norm()))
    assert float(x.norm()) <= float(measurement.forward.bounds.largest)
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).double()
    sampled = measurement.forward.sampled
    noise = noise if sampled is None else noise * sampled
    assert torch.allclose(y - physics.A(measurement.clean), problem.sigma * noise, atol=1e-9)
    assert measurement.start.shape == measurement.clean.shape
    single = problem.measure(_image(), 3)
    assert torch.allclose(single.y.double(), y, atol=1e-5)


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


def test_performance_profile_by_hand():
    inf = float("inf")
    curves = performance_profile(
        {"a": {"p": 1, "q": 4, "r": inf}, "b": {"p": 2, "q": 2}, "c": {"p": inf, "q": inf}}
    )
    assert curves["a"][0][1:3] == [1, 2]
    assert curves["a"][1][-1] == pytest.approx(2 / 3)
    assert curves["b"][0][1:3] == [1, 2]
    assert curves["c"][1] == [0, 0]


def test_clock_stops_while_paused():
    clock = Clock()
    with clock.paused():
        time.sleep(0.05)
    assert clock.seconds < 0.04
    with pytest.raises(KeyError), clock.paused():
        raise KeyError
    time.sleep(0.02)
    assert clock.seconds > 0.015


def test_every_status_has_an_outcome():
    assert outcome_of(Status.CONVERGED) is Outcome.CONVERGED
    assert outcome_of(Status.TIME_LIMIT) is Outcome.TIME_LIMIT
    assert outcome_of(Status.STAGNATED) is Outcome.STAGNATED
    assert outcome_of(Status.MAX_ITERATIONS) is Outcome.ITERATION_LIMIT
    assert {outcome_of(s) for s in Status if s.failed} == {Outcome.FAILED}


def _row(method: str, image: str, psnr: str, outcome: str = "converged") -> dict[str, str]:
    return {
        "problem": "noise-25",
        "method": method,
        "image": image,
        "outcome": outcome,
        "message": "",
        "psnr": psnr,
        "weight": "1",
        "evaluations": "10",
        "certified": "1e-05",
        "seconds": "0.5",
    }


def test_summary_pairs_differences_and_counts_failures():
    rows = [
        _row("TV", "a", "28.0"),
        _row("TV", "b", "30.0"),
        _row("ours", "a", "28.5"),
        _row("ours", "b", "30.7"),
        _row("fragile", "a", "99.0"),
        _row("fragile", "b", "", "failed"),
    ]
    rows[2]["certified"] = "3e-03"
    summary = {row["method"]: row for row in summarise(rows)}
    assert summary["ours"]["psnr"] == "29.600"
    assert summary["ours"]["difference"] == "0.600"
    assert summary["ours"]["difference_error"] == "0.100"
    assert summary["ours"]["certified"] == "3.0e-03"  # the worst
    assert summary["TV"]["difference"] == ""
    assert summary["fragile"]["psnr"] == ""
    assert summary["fragile"]["outcomes"] == "converged 1; failed 1"


def test_default_images_need_no_network_and_never_mix():
    test, tuning = (dict(open_images(key)) for key in ("photographs", "tuning-photographs"))
    assert not test.keys() & tuning.keys()
    for image in (*test.values(), *tuning.values()):
        assert image.ndim == 3
        assert image.shape[0] == 1
        assert 0 <= float(image.min()) < float(image.max()) <= 1
    (only,) = open_images("photographs", limit=1, crop=20)
    assert only[1].shape == (1, 20, 20)
    assert centre(torch.zeros(1, 9, 30), 20).shape == (1, 9, 9)
    with pytest.raises(ValueError, match="neither a folder of images nor a dataset"):
        open_images("no such thing")
    assert all(row.description for row in DATASETS.values())


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_bend_like_ridges(name):
    """Of one responding channel: curvature one at zero, force one far away, to a few percent."""
    assert "," not in name  # which separates names on the command line
    candidate = CANDIDATES[name]
    potential = candidate.potential()
    members = candidate.channels // potential.groups(candidate.channels)
    u = torch.zeros(1, candidate.channels, 5, 5)
    channel = 3 * members
    for size, expected in ((1e-3, 1e-3), (1e3, 1.0)):
        u[:, channel] = size
        force = potential.grad(u)[0, channel, 2, 2].detach()
        assert float(force) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_begin_as_the_ridge_model(name):
    """Nearly the same gradient of an image, from filters and conditioning that are not the initial ones."""
    ridges, model = CANDIDATES["ridges"].build("ridges"), CANDIDATES[name].build(name)
    with torch.no_grad():
        for parameter in ridges.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    inherit(model, ridges)
    x = torch.rand(1, 1, 24, 24)
    with torch.no_grad():
        expected, found = ridges.grad(x, 0.1), model.grad(x, 0.1)
    tolerance = {
        "ridges": 1e-6,
        "twice the ridges": 0.15,
        "larger filters": 1e-5,
        "two scales": 0.15,
        "pairs": 0.03,
        "mixing": 0.1,
    }
    assert (found - expected).norm() <= tolerance.get(name, 0.4) * expected.norm()


@pytest.mark.parametrize("name", ["crr", "ridges", "pairs"])
def test_candidates_begin_as_ridges_with_a_learned_spline(name):
    """The shipped spline saturates almost three times as high and as far as those of the candidates."""
    given, model = open_model("crr").regularizer, CANDIDATES[name].build(name)
    assert isinstance(given, ConvexRegularizer)
    inherit(model, given)
    x = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = given.grad(x, 0.1), model.grad(x, 0.1)
        assert (found - expected).norm() <= 0.1 * expected.norm()


@pytest.mark.parametrize("name", ["larger filters", "two scales"])
def test_bounds_of_candidates_with_other_filters_hold(name):
    """Lipschitz bound over the dense Jacobian's norm at zero, where every potential is steepest."""
    model = CANDIDATES[name].build(name).double()
    x = torch.zeros(1, 1, 12, 12, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: model.grad(v, 0.1), x).reshape(144, 144)
    assert (jacobian - jacobian.mT).abs().max() <= 1e-10 * jacobian.abs().max()
    largest = torch.linalg.eigvalsh(jacobian)[-1].detach()
    assert 0 < largest <= model.lipschitz(sigma=0.1).detach() < 100 * largest


def scored(method: str, outcome: str = "converged", *, problem: str = "mri", more: float = 0.0):
    """Rows of a method on three images."""
    return [
        {
            "problem": problem,
            "method": method,
            "image": str(image),
            "outcome": outcome if image == 0 else "converged",
            "message": "",
            "psnr": f"{30 + image + more * (image + 1)}",
            "weight": "1",
            "evaluations": "9",
            "certified": "1e-4",
            "seconds": "0.1",
        }
        for image in range(3)
    ]


def test_results_that_stopped_at_a_limit_are_marked(tmp_path):
    rows = summarise(scored("a") + scored("b", "iteration limit"))
    write_rows(tmp_path / "summary.csv", rows)
    (table,) = headline(tmp_path, "physics")
    assert [row["mri"] for row in table.rows] == ["31.00", "31.00*"]
    assert "With a star" in table.note
    write_rows(tmp_path / "summary.csv", rows[:1])
    assert "star" not in headline(tmp_path, "physics")[0].note


def test_short_tables_have_paired_differences(tmp_path):
    """To the published model where it has results; the standard error of 1, 2, 3 dB is 1 / sqrt(3)."""
    rows = scored("crr", problem="noise-5") + scored("mine", problem="noise-5", more=1.0)
    write_rows(tmp_path / "summary.csv", summarise(rows))
    (table,) = headline(tmp_path, "denoising")
    assert [row["noise-5"] for row in table.rows] == ["31.00", "33.00 (+2.000 ± 0.577)"]
    assert table.note.endswith("to crr.")  # no dashes to explain
    published = "crr_deq_multinoise (published)"
    rows += scored("mine", problem="noise-25") + scored(published, problem="noise-25", more=1.0)
    write_rows(tmp_path / "summary.csv", summarise(rows))
    (table,) = headline(tmp_path, "denoising")
    by_method = {row["method"]: row["noise-25"] for row in table.rows}
    assert by_method == {"crr": "-", "mine": "31.00 (-2.000 ± 0.577)", published: "33.00"}
    baselines, dash = (
        f"to crr (noise-5) or {published} (noise-25).",
        "A dash: not run, or not made for",
    )
    assert table.note.endswith(f"{baselines} {dash} that noise level.")


def test_commands_under_tables_name_everything_that_matters():
    """What all runs share, and the weights that only some methods need; no defaults."""
    surroundings = {
        **{"date": "2026-01-01T00:00", "cpu": "a processor", "device": "cpu", "threads": 1},
        **{"versions": {"torch": "2", "deepinv": "0.5"}, "commit": "abc"},
    }
    options = Options(images="some", limit=6, tuning_crop=80, models=("crr", "mine")).record()
    document = {
        "runs": [
            {"options": {**options, "seed": 1, "weights": "peers"}, "environment": surroundings},
            {"options": {**options, "crop": 64}, "environment": surroundings},
        ]
    }
    expected = "--images some --limit 6 --tuning-crop 80 --models crr,mine --weights peers"
    assert environment_line("study", document).startswith(
        f"`python -m benchmarks run study {expected}`: a processor, 1 thread(s)"
    )
    document["runs"] = [{"options": Options().record(), "environment": surroundings}]
    assert environment_line("study", document).startswith("`python -m benchmarks run study`: ")
    other = {**surroundings, "cpu": "another"}
    document["runs"].append({"options": Options().record(), "environment": other})
    assert "a processor, 1 thread(s), torch 2, deepinv 0.5; another, 1" in environment_line(
        "", document
    )


def test_dilated_filters_reach_as_far_as_they_say():
    """The response to one lit pixel ends where the reach says."""
    operator = Dilated((1, 2, 3), (3, 5))
    reach = operator.reach().radius
    assert reach == operator.kernel.shape[-1] // 2 == 1 + 2 * Dilated.dilation
    x = torch.zeros(1, 1, 41, 41)
    x[..., 20, 20] = 1
    touched = operator(x)[0].abs().amax(0).nonzero()
    assert int((touched - 20).abs().max()) == reach
