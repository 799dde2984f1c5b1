"""Denoising with image and codes together, against one after the other in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convexreg import ConvexRegularizer, reconstruct
from convexreg.networks.conditioning import NoiseScaling
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution, Padding
from convexreg.networks.potentials import InfimalConvolution, PooledNorm
from convexreg.reconstruction.latent import denoise_with_codes
from convexreg.reconstruction.problem import proximal_problem
from convexreg.reconstruction.proximal import proximal_point
from convexreg.solvers import Status
from convexreg.solvers.operators import Identity
from tests.tables import perturbed

SIGMA = 0.1
LAM = 0.7


def regularizer(padding: Padding, block: int = 2, channels: int = 1) -> ConvexRegularizer:
    conditioning = NoiseScaling(6, 1, sigma_min=0.02, sigma_max=0.5, knots=3, relative_slope=0.5)
    operator = Convolution((channels, 6), (3,), padding=padding)
    module = GradientModule(
        operator, InfimalConvolution(6, 8, block=block), bias=False, conditioning=conditioning
    )
    return ConvexRegularizer(
        perturbed(module, 0.2), in_channels=channels, sigma_range=(0.02, 0.5), name="latent"
    )


def noisy(channels: int = 1) -> Tensor:
    y = 0.1 * torch.randn(2, channels, 9, 8, dtype=torch.float64)
    y[..., 4:] += 0.6
    return y


def objective(model: ConvexRegularizer, x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().flatten(1).sum(1) / 2 + LAM * model.energy(x, SIGMA)


CASES = [("circular", 2, 1), ("circular", 1, 1), ("zero", 2, 1), ("circular", 2, 3), ("zero", 1, 3)]


@pytest.mark.parametrize(("padding", "block", "channels"), CASES)
def test_the_minimiser_and_its_certificates(padding: Padding, block: int, channels: int) -> None:
    """Bounds hold however early the iterations end; at the end both ways have the same minimum."""
    model, y = regularizer(padding, block, channels), noisy(channels)
    best = denoise_with_codes(model, y, SIGMA, lam=LAM, gap_tol=1e-11, max_iter=20000)
    assert best.converged
    nested = proximal_problem(y, model, SIGMA, LAM).minimise(best.x, throw=False)
    assert (nested.certificate.lower <= best.certificate.lower + best.certificate.gap + 1e-9).all()
    assert float(proximal_problem(y, model, SIGMA, LAM).objective.grad(best.x).norm()) < 1e-4
    lowest = best.certificate.lower
    for iterations in (0, 1, 10, 50):
        early = denoise_with_codes(model, y, SIGMA, lam=LAM, gap_tol=0.0, max_iter=iterations)
        assert (early.iterations == iterations).all()
        assert (early.status == Status.MAX_ITERATIONS).all()
        certificate = early.certificate
        value = objective(model, early.x, y)
        assert (certificate.lower <= lowest * (1 + 1e-10)).all()
        assert (value <= certificate.lower + certificate.gap + 1e-10).all()
        distance = (early.x - best.x).flatten(1).norm(dim=1)
        assert (distance <= certificate.distance + best.certificate.distance).all()


def test_the_gap_is_primal_less_dual() -> None:
    """With the dual written out: `t <r, K y> - t^2 |K^T r|^2 / 2 - t |r|^2 / 2`."""
    model, y = regularizer("zero"), noisy()[:1]
    early = denoise_with_codes(model, y, SIGMA, lam=LAM, gap_tol=0.0, max_iter=0)
    module = model.network
    assert isinstance(module, GradientModule)
    assert isinstance(module.phi, InfimalConvolution)
    assert module.conditioning is not None
    scale, weight = module.conditioning.factors(y, SIGMA)
    t = LAM * weight

    def responses(x: Tensor) -> Tensor:
        return scale * module.operator(x)

    # without codes the primal value is quadratic, and the feasible point a multiple of the responses by block
    error = responses(early.x)
    columns = module.phi.columns(error)
    inside = torch.einsum("ck,cpn->kpn", module.phi.atoms, columns).norm(dim=1)
    excess = (inside / module.phi.thresholds.unsqueeze(1)).amax(0).clamp_min(1)
    r = module.phi.from_columns(columns / excess, error.shape)
    pulled = module.operator.adjoint(scale * t * r)
    dual = (t * r * responses(y)).sum() - pulled.square().sum() / 2 - (t * r * r).sum() / 2
    primal = (early.x - y).square().sum() / 2 + (t * error.square()).sum() / 2
    torch.testing.assert_close(early.certificate.lower[0], dual, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(early.certificate.gap[0], primal - dual, rtol=1e-9, atol=1e-12)


def test_an_image_of_a_batch_gets_what_it_gets_alone() -> None:
    model, y = regularizer("circular"), noisy()
    together = denoise_with_codes(model, y, torch.tensor([0.05, 0.2]))
    for number, sigma in enumerate((0.05, 0.2)):
        alone = denoise_with_codes(model, y[number : number + 1], sigma)
        assert torch.equal(alone.iterations[0], together.iterations[number])
        torch.testing.assert_close(alone.x[0], together.x[number], rtol=1e-6, atol=1e-7)


def test_time_limit() -> None:
    result = denoise_with_codes(regularizer("zero"), noisy(), SIGMA, gap_tol=0.0, time_limit=0.0)
    assert (result.status == Status.TIME_LIMIT).all()


def test_other_regularizers_are_refused() -> None:
    module = GradientModule(Convolution((1, 4), (3,)), PooledNorm(4), bias=False)
    with pytest.raises(ValueError, match="no module of an infimal convolution"):
        denoise_with_codes(ConvexRegularizer(module), torch.zeros(1, 1, 4, 4))


def test_where_a_gap_would_be_too_small_it_is_refused() -> None:
    model, y = regularizer("zero"), noisy()
    with pytest.raises(ValueError, match="denoise_with_codes"):
        reconstruct(y, Identity(), sigma=SIGMA, regularizer=model)
    with pytest.raises(ValueError, match="known from below"):
        proximal_point(model, y, gamma=torch.ones(2), sigma=SIGMA, tol=1e-3)
