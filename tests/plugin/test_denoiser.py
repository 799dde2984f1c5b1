"""The denoiser is the proximal operator, and plug-and-play with it converges."""

from __future__ import annotations

import torch
from deepinv.optim import GD, L2, PGD, RED, PnP
from torch import Tensor

from convexreg import ConvexDenoiser, ConvexRegularizer
from convexreg.solvers import LeastSquares, OperatorBounds, QuasiNewton, Sum, minimise
from tests.plugin.conftest import SIGMA, TOL, blur


def test_denoiser_is_the_prox_and_makes_plug_and_play_converge(regularizer, prior, images):
    denoiser = ConvexDenoiser(regularizer, tol=TOL)
    expected = prior.prox(images, SIGMA)
    for sigma in (SIGMA, torch.full((3, 1, 1, 1), SIGMA).double()):
        torch.testing.assert_close(denoiser(images, sigma), expected, rtol=0, atol=1e-7)
    physics, tau, y = blur(), 0.8, blur().A(images[:1])
    settings = {"data_fidelity": L2(), "stepsize": tau, "g_param": SIGMA, "max_iter": 60}
    restored = PGD(prior=PnP(denoiser), **settings)(y, physics)
    minimiser = _minimiser(regularizer, y, physics, 1 / tau)
    torch.testing.assert_close(restored, minimiser, rtol=0, atol=1e-6)
    red = GD(prior=RED(denoiser), **settings)(y, physics)
    residual = physics.A_adjoint(physics.A(red) - y) + red - denoiser(red, SIGMA)
    assert residual.abs().max() < 1e-6


def _minimiser(regularizer: ConvexRegularizer, y: Tensor, physics, lam: float) -> Tensor:
    data = LeastSquares(physics, y, OperatorBounds(float("inf")))
    objective = Sum([data, regularizer.term(SIGMA)], [1.0, lam])
    return minimise(objective, y, QuasiNewton(), gtol=1e-9).x
