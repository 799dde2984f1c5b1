"""Data terms other than least squares: gradients, constants, exactness, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import scipy.optimize
import skimage.data
import torch
from deepinv.optim import data_fidelity
from deepinv.physics import Blur, Denoising, LinearPhysics, PoissonNoise
from torch import Tensor

from convexreg import reconstruct
from convexreg.solvers import (
    PoissonLikelihood,
    Proximity,
    SmoothedL1,
    Status,
    data_term,
    operator_bounds,
)
from convexreg.solvers.objective import Objective
from tests.oracles import gradient, jacobian
from tests.problems import small_regularizer
from tests.tables import over


def blur() -> LinearPhysics:
    """Nonnegative, so that nonnegative images have nonnegative measurements."""
    return Blur(filter=torch.tensor([[[[0.2, 0.5, 0.3]] * 3]]).double() / 3, padding="circular")


@dataclass(frozen=True)
class FidelityCase:
    """:ivar reference: the value for `z = A x` and `y`, written down from the definition."""

    fidelity: Callable[[], object]
    reference: Callable[[Tensor, Tensor], Tensor]


def _poisson(z: Tensor, y: Tensor) -> Tensor:
    mean = z / 0.1 + 0.5
    return (mean - y / 0.1 + torch.xlogy(y / 0.1, y / 0.1 / mean)).sum()


def _huber(z: Tensor, y: Tensor) -> Tensor:
    return torch.nn.functional.huber_loss(z, y, delta=1e-3, reduction="sum") / 1e-3


FIDELITIES = {
    "l2": FidelityCase(
        lambda: data_fidelity.L2(sigma=0.2), lambda z, y: (z - y).square().sum() / 0.08
    ),
    "poisson": FidelityCase(lambda: data_fidelity.PoissonLikelihood(gain=0.1, bkg=0.5), _poisson),
    "l1": FidelityCase(data_fidelity.L1, _huber),
}


def posed(case: FidelityCase, count: int = 2) -> tuple[Objective, Tensor, Tensor, LinearPhysics]:
    """A data term, a nonnegative image batch, its measurements and the operator."""
    physics = blur()
    x = torch.rand(count, 1, 5, 6).double()
    y = 0.1 * torch.poisson(physics.A(torch.rand_like(x)) / 0.1)
    return data_term(physics, y, case.fidelity()), x, y, physics


@over("case", FIDELITIES)
def test_value_and_gradient(case: FidelityCase) -> None:
    term, x, y, physics = posed(case)
    value, grad = term.value_and_grad(x)
    for index in range(2):
        expected = case.reference(physics.A(x[index : index + 1]), y[index : index + 1])
        torch.testing.assert_close(value[index], expected)
    torch.testing.assert_close(term.value(x), value)
    torch.testing.assert_close(grad, gradient(lambda z: term.value(z).sum(), x))


@over("case", FIDELITIES)
def test_convex_with_the_stated_constant(case: FidelityCase) -> None:
    """Also where an image is negative and the Poisson likelihood is continued."""
    term, x, _, _ = posed(case, 1)
    for point in (x, -3 * x, x - 0.5):
        hessian = jacobian(lambda z: term.value_and_grad(z)[1], point)
        eigenvalues = torch.linalg.eigvalsh(hessian)
        assert eigenvalues[0] >= -1e-9
        assert eigenvalues[-1] <= term.lipschitz(point) * (1 + 1e-9)


def test_every_image_has_the_constant_it_gets_alone() -> None:
    """Counts of very different size, those of the last image below the background."""
    physics = blur()
    y = torch.rand(3, 1, 5, 6).double() * torch.tensor([1.0, 100.0, 0.1]).reshape(3, 1, 1, 1)

    def constant(counts: Tensor) -> Tensor:
        bounds = operator_bounds(physics, counts)
        term = PoissonLikelihood(physics, counts, bounds, gain=0.1, background=0.5)
        return term.lipschitz(counts)

    together = constant(y)
    assert together[1] > 50 * together[0]
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], constant(y[i : i + 1]))


@pytest.mark.parametrize("gain", [0.1, 1.0, 4.0])
def test_the_weights_of_counts_are_second_derivatives(gain: float) -> None:
    """On both sides of the background, where the likelihood is continued."""
    y, physics = torch.poisson(3 * torch.rand(2, 1, 5, 6).double()), Denoising()
    bounds = operator_bounds(physics, y)
    term = PoissonLikelihood(physics, y, bounds, gain=gain, background=0.5)
    z = gain * torch.randn_like(y)
    torch.testing.assert_close(term.weight(z), gradient(lambda p: term.distance(p)[1], z))


def test_empty_pixels_of_counts_stay_where_the_likelihood_says() -> None:
    """Zero counts: the continuation has its minimum at a mean of zero, and nothing runs off."""
    y = torch.tensor([0.0, 0.2, 0.5, 3.0]).double().reshape(1, 1, 2, 2)
    physics = Denoising()
    term = PoissonLikelihood(physics, y, operator_bounds(physics, y), gain=0.1, background=0.5)
    torch.testing.assert_close(
        term.value_and_grad(0.1 * (y - 0.5))[1], torch.zeros_like(y), atol=1e-12, rtol=0
    )
    clean = torch.full((1, 1, 16, 16), 0.1)
    counts = torch.poisson(10 * clean, generator=torch.Generator().manual_seed(0))
    assert bool((counts == 0).any())
    fidelity = data_fidelity.PoissonLikelihood(gain=0.1, bkg=0.1)
    result = reconstruct(counts / 10, physics, sigma=0.1, fidelity=fidelity, lam=20.0)
    assert result.converged
    assert -0.02 < float(result.image.min()) < float(result.image.max()) < 0.5


def test_the_smoothing_of_l1_is_bounded() -> None:
    physics = Denoising()
    y = torch.rand(1, 1, 4, 4).double()
    term = SmoothedL1(physics, y, operator_bounds(physics, y), delta=0.1)
    for scale in (0.0, 0.05, 1.0):
        x = y + scale * torch.randn_like(y)
        excess = (x - y).abs().sum() - term.value(x)
        assert 0 <= excess <= 16 * 0.1 / 2 + 1e-12


def test_reconstruction_from_counts_is_the_minimiser() -> None:
    """Against SciPy, over nonnegative images."""
    physics, regularizer = blur(), small_regularizer()
    clean = torch.rand(1, 1, 6, 7).double()
    noise = PoissonNoise(gain=0.02, rng=torch.Generator().manual_seed(0))
    y = noise(physics.A(clean))
    fidelity = data_fidelity.PoissonLikelihood(gain=0.02, bkg=0.1)
    result = reconstruct(
        y,
        physics,
        sigma=0.1,
        regularizer=regularizer,
        fidelity=fidelity,
        lam=50.0,
        box=(0.0, 2.0),
        gap_tol=1e-7,
    )
    assert result.converged
    term = data_term(physics, y, fidelity)

    def objective(flat):
        x = torch.from_numpy(flat).reshape(clean.shape)
        value, grad = term.value_and_grad(x)
        prior, slope = regularizer.value_and_grad(x, 0.1)
        return float(value + 50 * prior), (grad + 50 * slope).flatten().numpy()

    best = scipy.optimize.minimize(
        objective,
        clean.flatten().numpy(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, 2)] * 42,
        options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-9},
    )
    gap = objective(result.image.flatten().numpy())[0] - best.fun
    assert -1e-8 <= gap <= float(result.certificate.gap[0]) + 1e-9


@over("build", {"denoising": Denoising, "blur": lambda: blur().float()})
def test_a_poisson_likelihood_says_noise_and_weight(build) -> None:
    """The weight is that of Gaussian noise over its variance, and the picture about as good."""
    gain, physics = 0.05, build()
    clean = (
        torch.from_numpy(skimage.data.camera()[100:148, 100:148].copy()).float()[None, None] / 255
    )
    y = PoissonNoise(gain, rng=torch.Generator().manual_seed(0))(physics.A(clean))
    settings = {
        "fidelity": data_fidelity.PoissonLikelihood(gain=gain, bkg=0.1),
        "regularizer": "mgradnet-m",
    }

    def psnr(image) -> float:
        return float(-10 * torch.log10((image - clean).square().mean()))

    result = reconstruct(y, physics, **settings)
    assert result.converged
    torch.testing.assert_close(result.sigma, (gain * y.double().mean()).sqrt()[None])
    physics.noise_model = PoissonNoise(gain)
    squares = reconstruct(y, physics, regularizer="mgradnet-m")
    torch.testing.assert_close(result.lam * result.sigma**2, squares.lam)
    assert psnr(result.image) > psnr(squares.image) - 1
    assert psnr(result.image) > psnr(y) + 5


def test_a_weight_that_nothing_is_known_of_has_to_be_given() -> None:
    y = torch.rand(1, 1, 8, 8)
    for fidelity in (data_fidelity.L1(), Proximity(y)):
        with pytest.raises(ValueError, match="needs lam as a number"):
            reconstruct(y, Denoising(), sigma=0.1, fidelity=fidelity)
    with pytest.raises(ValueError, match="give lam as a number"):
        reconstruct(y, Denoising(), sigma=0.1, fidelity=data_fidelity.L2(), lam="sure")


def test_a_scaled_misfit_has_a_scaled_weight() -> None:
    y, regularizer = torch.rand(1, 1, 8, 8).double(), small_regularizer()
    settings = {"sigma": 0.1, "regularizer": regularizer, "gap_tol": 1e-7}
    plain = reconstruct(y, Denoising(), **settings)
    scaled = reconstruct(y, Denoising(), fidelity=data_fidelity.L2(sigma=0.1), **settings)
    torch.testing.assert_close(scaled.lam, 100 * plain.lam)
    torch.testing.assert_close(scaled.image, plain.image, rtol=0, atol=1e-3)


def test_reconstruction_with_outliers() -> None:
    """Salt and pepper: the absolute misfit forgives what the squared one spreads."""
    clean = torch.full((1, 1, 12, 12), 0.5).double()
    noisy = clean.clone()
    noisy.view(-1)[::9] = 1.0
    options = {"sigma": 0.1, "regularizer": small_regularizer(), "box": (0.0, 1.0)}
    fidelity = data_fidelity.L1()
    result = reconstruct(noisy, Denoising(), fidelity=fidelity, lam=20.0, gap_tol=0.1, **options)
    assert result.status.tolist() == [Status.CONVERGED]
    assert (result.image - clean).abs().mean() < 0.5 * (noisy - clean).abs().mean()


def test_refusals() -> None:
    physics, y = Denoising(), torch.rand(1, 1, 8, 8)
    with pytest.raises(ValueError, match="AmplitudeLoss is not known to be convex"):
        data_term(physics, y, data_fidelity.AmplitudeLoss())
    with pytest.raises(ValueError, match="positive background"):
        data_term(physics, y, data_fidelity.PoissonLikelihood())
    with pytest.raises(ValueError, match="counts cannot be negative"):
        PoissonLikelihood(physics, -y, operator_bounds(physics, y), background=1.0)
    with pytest.raises(ValueError, match="delta must be positive"):
        SmoothedL1(physics, y, operator_bounds(physics, y), delta=0.0)
    with pytest.raises(ValueError, match="needs lam as a number"):
        reconstruct(y, physics, sigma=0.1, fidelity=data_fidelity.L1())


def test_a_data_term_that_stays_in_float32_keeps_its_own_certificate() -> None:
    physics = blur().float()
    y = torch.rand(1, 1, 8, 8)
    term = SmoothedL1(physics, y, operator_bounds(physics, y), delta=0.01)
    torch.manual_seed(0)
    regularizer = small_regularizer().float()
    result = reconstruct(
        y, physics, sigma=0.1, regularizer=regularizer, fidelity=term, lam=0.1, gap_tol=0.1
    )
    assert float(result.certificate.relative_gap) <= 0.1
