"""The study of architectures: its candidates and its runs."""

from __future__ import annotations

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.candidates import CANDIDATES, Dilated, inherit
from benchmarks.harness.registry import benchmark
from convexreg.models.files import load_model
from convexreg.regularizer import ConvexRegularizer


def test_a_study_with_missing_cells_can_be_reported(tmp_path):
    results = ["--results", str(tmp_path)]
    for architecture, objective in (("crr", "score"), ("ridges", "unrolled")):
        cell = ["--methods", architecture, "--problems", objective]
        assert main(["run", "study", "--tiny", *results, *cell]) == 0
    assert main(["report", *results, "--out", str(tmp_path / "report")]) == 0
    (table,) = benchmark("study").headline(tmp_path / "study")
    cells = table.rows.set_index("architecture")
    assert cells.loc["crr", "unrolled"] == cells.loc["ridges", "score"] == "-"
    assert float(str(cells.loc["ridges", "unrolled"])) > 0


def test_a_study_that_could_not_begin_leaves_nothing_behind(tmp_path, capsys):
    command = ["run", "study", "--tiny", "--results", str(tmp_path), "--problems", "score"]
    for mistake, message in (
        ("--images=/nowhere", "neither a folder of images nor a dataset"),
        ("--models=/nowhere.safetensors", "no model file"),
        ("--models=mgradnet-m-adaptive", "is not a ridge model of 64 channels"),
        ("--models=mgradnet-m", "is not a ridge model of 64 channels"),
    ):
        assert main([*command, mistake]) == 2
        assert message in capsys.readouterr().err
    assert main([*command, "--images", "photographs", "--models", "crr"]) == 0


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
    given, model = load_model("crr").regularizer, CANDIDATES[name].build(name)
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


def test_dilated_filters_reach_as_far_as_they_say():
    """The response to one lit pixel ends where the reach says."""
    operator = Dilated((1, 2, 3), (3, 5))
    reach = operator.reach().radius
    assert reach == operator.kernel.shape[-1] // 2 == 1 + 2 * Dilated.dilation
    x = torch.zeros(1, 1, 41, 41)
    x[..., 20, 20] = 1
    touched = operator(x)[0].abs().amax(0).nonzero()
    assert int((touched - 20).abs().max()) == reach
