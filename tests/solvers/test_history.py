"""What is kept of a solve is what its callback was told, and its picture shows it."""

from __future__ import annotations

import sys

import deepinv
import matplotlib
import pytest
import torch
from matplotlib import pyplot

import convexreg
from convexreg.solvers import FISTA, History, Progress, Proximity, minimise

matplotlib.use("agg")


def test_numbers_are_those_of_the_callback():
    told: list[Progress] = []
    history = History()
    x = torch.randn(2, 1, 5, 5, dtype=torch.float64)
    objective = Proximity(torch.zeros_like(x))
    for _ in range(2):
        minimise(objective, x, FISTA(), gap_tol=1e-6, callback=history.before(told.append))
    assert len(history.tracks) == 2
    for name in ("evaluations", "relative_gap", "stationarity"):
        kept = torch.cat([getattr(track, name) for track in history.tracks])
        assert torch.equal(kept, torch.stack([getattr(each, name).double() for each in told]))


@pytest.mark.parametrize("model", ["mgradnet-m", "mgradnet-m-adaptive"])
def test_a_result_draws_a_line_per_solve_and_image(model):
    y = 0.5 + 0.1 * torch.randn(2, 1, 12, 12)
    result = convexreg.reconstruct(y, deepinv.physics.Denoising(), sigma=0.1, regularizer=model)
    tracks = result.history.tracks
    assert len(tracks) == len(result.rounds)
    for track, of_round in zip(tracks, result.rounds, strict=True):
        assert track.relative_gap.shape[0] == int(of_round.iterations.max())
        assert torch.equal(track.evaluations[-1], of_round.evaluations.double())
    axes = result.plot()
    assert len(axes.lines) == 2 * len(tracks)
    assert axes.get_yscale() == "log"
    assert result.plot(axes) is axes
    pyplot.close("all")


def test_without_a_certificate_the_gradient_is_drawn():
    mask = torch.ones(1, 1, 8, 8)
    mask[..., ::2] = 0
    physics = deepinv.physics.Inpainting((1, 8, 8), mask=mask[0])
    y = physics(torch.rand(1, 1, 8, 8))
    result = convexreg.reconstruct(y, physics, sigma=0.1, regularizer="mgradnet-m", anchor=0.0)
    assert not result.certificate.relative_gap.isfinite().any()
    axes = result.plot()
    assert axes.get_ylabel() == "rms of the gradient"
    heights = axes.lines[0].get_ydata()
    assert heights[-1] == pytest.approx(float(result.stationarity))
    pyplot.close("all")


def test_nothing_to_draw_and_nothing_to_draw_with(monkeypatch):
    history = History()
    with pytest.raises(ValueError, match="no iteration to draw"):
        history.plot()
    x = torch.randn(1, 1, 3, 3)
    minimise(Proximity(x), 2 * x, FISTA(), gap_tol=1e-3, callback=history)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.delattr(matplotlib, "pyplot")
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        history.plot()
