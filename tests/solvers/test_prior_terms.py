"""deepinv's own priors in our solvers."""

from __future__ import annotations

import pytest
import torch
from deepinv.optim import L2, PGD
from deepinv.optim.prior import SmoothedTVPrior, Tikhonov, TVPrior
from deepinv.physics import BlurFFT

from convexreg.solvers import (
    FISTA,
    CurvatureBounds,
    GradientDescent,
    LeastSquares,
    PriorTerm,
    Proximity,
    QuasiNewton,
    Sum,
    certify,
    minimise,
    operator_bounds,
)
from tests.problems import scenes
from tests.tables import over

SIZE = (8, 7)
PRIORS = {"tikhonov": Tikhonov, "smoothed-tv": lambda: SmoothedTVPrior(eps=0.05)}


@over("build", PRIORS)
def test_constants_hold_and_are_nearly_reached(build):
    term = PriorTerm(build())
    flat = torch.full((1, 1, *SIZE), 0.3).double()  # where smoothed TV is most curved
    for x in (flat, torch.randn_like(flat)):
        hessian = torch.autograd.functional.hessian(
            lambda v: term.value(v.reshape(1, 1, *SIZE)).sum(), x.flatten()
        )
        values = torch.linalg.eigvalsh(hessian)
        assert values[-1] <= term.lipschitz(x) * (1 + 1e-12)
        assert values[0] >= term.strong_convexity(x) - 1e-9
    x = flat.clone().requires_grad_()
    (grad,) = torch.autograd.grad(term.value(x).sum(), x)
    torch.testing.assert_close(term.value_and_grad(flat)[1], grad)
    hessian = torch.autograd.functional.hessian(
        lambda v: term.value(v.reshape(1, 1, *SIZE)).sum(), flat.flatten()
    )
    assert torch.linalg.eigvalsh(hessian)[-1] > 0.9 * term.lipschitz(flat)


def test_total_variation_of_volumes_has_a_larger_constant():
    """A checkerboard reaches `|D|^2 = 12`, up to its borders."""
    checkers = torch.tensor([1.0, -1.0]).repeat(4).double()
    volume = 1e-4 * (checkers[:, None, None] * checkers[:, None] * checkers)[None, None]
    term = PriorTerm(SmoothedTVPrior(eps=1.0))
    ratio = term.value_and_grad(volume)[1].norm() / volume.norm()
    assert 8 < ratio <= term.lipschitz(volume) == 12


@over("build", PRIORS)
def test_solvers_and_certificates_serve_them(build):
    noisy = scenes(2, *SIZE) + 0.1 * torch.randn(2, 1, *SIZE).double()
    objective = Sum([Proximity(noisy), PriorTerm(build())], [1.0, 0.1])
    solvers = (GradientDescent(), FISTA(), QuasiNewton())
    solutions = [minimise(objective, noisy, s, gap_tol=1e-10) for s in solvers]
    for solution in solutions:
        assert (solution.certificate.relative_gap <= 1e-10).all()
        assert (certify(objective, solution.x).relative_gap <= 2e-10).all()
        torch.testing.assert_close(solution.x, solutions[0].x, rtol=0, atol=1e-5)


def test_deepinv_finds_the_same_minimiser():
    kernel = torch.tensor([[1.0, 2.0, 1.0], [2.0, 30.0, 2.0], [1.0, 2.0, 1.0]]).double()
    physics = BlurFFT((1, *SIZE), filter=(kernel / kernel.sum())[None, None])
    y = physics.A(scenes(1, *SIZE))
    data = LeastSquares(physics, y, operator_bounds(physics, y))
    ours = minimise(Sum([data, PriorTerm(Tikhonov())], [1.0, 0.2]), y, FISTA(), gap_tol=1e-12).x
    settings = {"stepsize": 1.0, "lambda_reg": 0.2, "max_iter": 200}
    theirs = PGD(data_fidelity=L2(), prior=Tikhonov(), **settings)(y, physics)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_unknown_constants_have_to_be_stated():
    with pytest.raises(ValueError, match="no constants are known for the prior TVPrior"):
        PriorTerm(TVPrior())
    stated = PriorTerm(Tikhonov(), CurvatureBounds(2.0, 0.5))
    assert float(stated.lipschitz(torch.zeros(1, 1))) == 2.0
    assert float(stated.strong_convexity(torch.zeros(1, 1))) == 0.5
