"""Gradient networks: symmetric Jacobians, positive semidefinite ones, proven constants, potentials."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from convexreg.networks.base import GradientNetwork
from convexreg.networks.cascaded import GradNetC, MGradNetC
from convexreg.networks.combinations import (
    GradNetM,
    LinearCombination,
    MGradNetM,
    StronglyMonotone,
)
from convexreg.networks.conditioning import NoiseScaling
from convexreg.networks.modular import GradientModule, IdentityRho, LearnedRho
from convexreg.networks.operators import Convolution, Dense
from convexreg.networks.potentials import LinearSpline, LogCosh, LogSumExp, PooledNorm
from convexreg.networks.quadrature import line_integral
from tests.networks.table import PAIRS, SIGMA, WIDTH, Build, NetworkCase
from tests.oracles import gradient, jacobian
from tests.tables import over, perturbed

DRAWS = 3
SCALES = (0.3, 3.0)
Pair = tuple[NetworkCase, Build, tuple[int, ...]]


def instances(pair: Pair) -> list[tuple[GradientNetwork, Tensor]]:
    """Random networks at random points; wilder where learned numbers of any sign are allowed."""
    case, operator, shape = pair
    noise = 0.6 if case.monotone else 1.2
    return [
        (perturbed(case.build(operator), noise), scale * torch.randn(1, *shape).double())
        for _ in range(DRAWS)
        for scale in SCALES
    ]


@over("pair", PAIRS)
def test_jacobian(pair: Pair) -> None:
    """Symmetric; positive semidefinite where claimed; between the proven constants."""
    case, _, shape = pair
    image_size = (shape[1], shape[2]) if len(shape) == 3 else None
    smallest = math.inf
    for network, x in instances(pair):
        assert network.monotone == case.monotone
        dense = jacobian(lambda points, g=network: g(points, SIGMA), x)
        size = dense.abs().max()
        assert (dense - dense.T).abs().max() <= 1e-12 * max(1.0, float(size))
        eigenvalues = torch.linalg.eigvalsh(dense)
        smallest = min(smallest, float(eigenvalues[0]))
        if case.monotone:
            assert eigenvalues[0] >= -1e-10
        assert network.strong_convexity() <= eigenvalues[0] + 1e-10 or not case.monotone
        for bound in (network.lipschitz(image_size, SIGMA), network.lipschitz(None, SIGMA)):
            assert torch.isfinite(bound) == case.bounded
            assert bound >= eigenvalues.abs().max()
    if case.indefinite:
        assert smallest < -1e-4


@over("pair", PAIRS)
def test_potential_has_the_network_as_gradient(pair: Pair) -> None:
    """By automatic differentiation (1e-10: quadrature) and by central differences (1e-6)."""
    for network, x in instances(pair)[:2]:
        value, grad = network.value_and_grad(x, SIGMA)
        assert value.dtype == torch.float64
        assert value.shape == (1,)
        torch.testing.assert_close(value, network.potential(x, SIGMA), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(grad, network(x, SIGMA), rtol=1e-12, atol=1e-12)
        derivative = gradient(lambda points, g=network: g.potential(points, SIGMA), x)
        torch.testing.assert_close(grad, derivative, rtol=1e-9, atol=1e-10)
        direction, step = torch.randn_like(x), 1e-5
        direction = direction / direction.norm()
        difference = network.potential(x + step * direction, SIGMA) - network.potential(
            x - step * direction, SIGMA
        )
        expected = (grad * direction).sum()
        allowed = 1e-6 * (1 + float(value.abs() + expected.abs()))
        assert abs(float(difference) / (2 * step) - float(expected)) <= allowed


@over("pair", PAIRS)
def test_batches_noise_levels_and_densities(pair: Pair) -> None:
    """A batch is its images, each with its own noise level; the density adds up to the potential."""
    case, operator, shape = pair
    network = perturbed(case.build(operator))
    x = torch.randn(3, *shape).double()
    sigma = torch.tensor([0.05, 0.1, 0.4]).double()
    value, grad = network.value_and_grad(x, sigma)
    bound = network.lipschitz(None, sigma).expand(3)
    for i in range(3):
        alone_value, alone_grad = network.value_and_grad(x[i : i + 1], float(sigma[i]))
        torch.testing.assert_close(alone_value, value[i : i + 1], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone_grad, grad[i : i + 1], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(network.lipschitz(None, float(sigma[i])).to(bound), bound[i])
    density = network.density(x, sigma)
    assert density.shape == (3, *shape[1:])
    torch.testing.assert_close(density.reshape(3, -1).sum(1), value)


@over("pair", {name: pair for name, pair in PAIRS.items() if pair[0].bounded})
def test_float32_bound_holds(pair: Pair) -> None:
    """The constant computed in float32 bounds the Jacobian of the float32 parameters, exactly."""
    case, operator, shape = pair
    image_size = (shape[1], shape[2]) if len(shape) == 3 else None
    for _ in range(DRAWS):
        network = perturbed(case.build(operator)).float()
        bound = network.lipschitz(image_size, SIGMA)
        exact = network.double()
        dense = jacobian(lambda points, g=exact: g(points, SIGMA), torch.zeros(1, *shape).double())
        assert bound.double() >= torch.linalg.eigvalsh(dense).abs().max()


@over("pair", PAIRS)
def test_parameters_get_gradients(pair: Pair) -> None:
    """Training reaches every parameter, through the values, the gradient and the bound."""
    case, operator, shape = pair
    network = case.build(operator).double()
    x = torch.randn(2, *shape).double()
    bound = network.lipschitz(None, SIGMA)
    loss = network(x, SIGMA).square().sum() + network.potential(x, SIGMA).sum()
    (loss + (bound if case.bounded else 0)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


# What is refused ------------------------------------------------------------------------------


def dense() -> Dense:
    return Dense(4, WIDTH)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GradNetC(dense(), []), "at least one activation"),
        (
            lambda: MGradNetC(dense(), [LinearSpline(WIDTH, monotone=False)]),
            "nondecreasing activations",
        ),
        (
            lambda: MGradNetM([GradientModule(dense(), LinearSpline(WIDTH, monotone=False))]),
            "must be monotone",
        ),
        (
            lambda: MGradNetM([GradientModule(dense(), LogSumExp(), rho=IdentityRho())]),
            "must be monotone",
        ),
        (
            lambda: MGradNetM([GradientModule(dense(), LogCosh())], coefficients=[-1.0]),
            "nonnegative ones in a conic",
        ),
        (
            lambda: LinearCombination([GradientModule(dense(), LogCosh())], coefficients=[1, 2]),
            "1 networks need as many coefficients",
        ),
        (
            lambda: StronglyMonotone(GradNetC(dense(), [LogCosh()]), 1.0),
            "pass convexify=True",
        ),
        (lambda: StronglyMonotone(MGradNetC(dense(), [LogCosh()]), -1.0), "must be nonnegative"),
        (
            lambda: NoiseScaling(8, 3, sigma_min=0.1, sigma_max=0.2),
            "8 channels do not divide into 3 groups",
        ),
        (lambda: NoiseScaling(8, 8, sigma_min=0.2, sigma_max=0.2), "sigma_min < sigma_max"),
        (lambda: NoiseScaling(8, 8, sigma_min=0.1, sigma_max=0.2, knots=1), "2 knots or more"),
    ],
)
def test_parts_that_do_not_fit_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_convexifying_needs_a_constant() -> None:
    """A module with an unbounded `rho` has no Lipschitz constant to add."""
    unbounded = GradNetM(
        [GradientModule(dense(), LogSumExp(), rho=IdentityRho())], coefficients=[-1.0]
    )
    with pytest.raises(ValueError, match="no proven Lipschitz constant"):
        StronglyMonotone(unbounded, 0.0, convexify=True)(torch.zeros(1, 4))


def test_conditioned_networks_need_a_noise_level() -> None:
    network = MGradNetC(
        dense(), [LogCosh()], conditioning=NoiseScaling(8, 8, sigma_min=0.1, sigma_max=0.2)
    )
    with pytest.raises(ValueError, match="give sigma"):
        network(torch.zeros(1, 4))


def test_a_module_without_coefficient_does_not_spoil_the_bound() -> None:
    bounded = GradientModule(dense(), LogCosh())
    unbounded = GradientModule(dense(), LogCosh(), rho=IdentityRho())
    combined = LinearCombination([bounded, unbounded], coefficients=[1.0, 0.0])
    torch.testing.assert_close(combined.lipschitz(), bounded.lipschitz())


def test_the_modulus_is_exact_in_float64() -> None:
    """0.1 is not a float32 number, and its float32 neighbour is larger."""
    network = StronglyMonotone(MGradNetC(dense(), [LogCosh()]), 0.1)
    assert network.strong_convexity().double() <= 0.1


# Noise conditioning, quadrature ---------------------------------------------------------------


def test_noise_scaling_interpolates_its_knots() -> None:
    scaling = perturbed(NoiseScaling(6, 3, sigma_min=0.01, sigma_max=0.5, knots=5))
    knots = torch.linspace(math.log(0.01), math.log(0.5), 5).double().exp()
    scale, weight = scaling(knots)
    assert scale.shape == (5, 6)
    assert weight.shape == (5, 3)
    torch.testing.assert_close(scale.log(), -scaling.log_threshold)
    group_threshold = scaling.log_threshold.unflatten(1, (3, 2)).mean(2)
    torch.testing.assert_close(weight.log(), scaling.log_slope + group_threshold)
    between = (knots[1] * knots[2]).sqrt()
    middle_scale, _ = scaling(between)
    torch.testing.assert_close(middle_scale[0].log(), scale.log()[1:3].mean(0))
    outside, _ = scaling(torch.tensor([1e-5, 10.0]).double())
    torch.testing.assert_close(outside, scale[[0, -1]])


def test_noise_scaling_starts_with_the_threshold_at_sigma() -> None:
    scale, weight = NoiseScaling(4, 4, sigma_min=0.01, sigma_max=0.5)(0.1)
    torch.testing.assert_close(scale, torch.full((1, 4), 10.0))
    torch.testing.assert_close(weight, torch.full((1, 4), 0.1 * 0.1 * 0.1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("function", "integral"),
    [
        (torch.tanh, lambda u: u.abs() + torch.log1p(torch.exp(-2 * u.abs())) - math.log(2)),
        (lambda v: v.square(), lambda u: u**3 / 3),
        (lambda v: torch.sigmoid(3 * v + 1), lambda u: _softplus(3 * u + 1) / 3),
    ],
    ids=["tanh", "square", "sigmoid"],
)
def test_line_integrals_keep_their_tolerance(function, integral, dtype: torch.dtype) -> None:
    u = torch.cat([torch.linspace(-5, 5, 41), torch.tensor([-3e3, -80.0, 1e-9, 400.0, 5e3])])
    expected = integral(u.double()) - integral(torch.zeros(()).double())
    result = line_integral(function, u.to(dtype))
    error = (result.double() - expected).abs() / expected.abs().clamp_min(1)
    assert error.max() <= 400 * torch.finfo(dtype).eps


def _softplus(v: Tensor) -> Tensor:
    return torch.where(v > 0, v, 0) + torch.log1p(torch.exp(-v.abs()))


def test_line_integrals_of_rough_functions_are_refused() -> None:
    with pytest.raises(ArithmeticError, match="not smooth enough"):
        line_integral(lambda v: (v > 0.3).double(), torch.linspace(0, 1, 7).double())


def test_learned_rho_is_nonnegative_and_nondecreasing() -> None:
    rho = perturbed(LearnedRho(5), 1.0)
    t = torch.linspace(-20, 20, 2001).double()
    values = rho(t)
    assert (values >= 0).all()
    assert (values.diff() >= -1e-15).all()
    assert not rho.needs_nonnegative
    assert IdentityRho().needs_nonnegative
    torch.testing.assert_close(gradient(rho.integral, t), values, rtol=1e-9, atol=1e-11)


def test_reach_of_a_pooling_window_counts() -> None:
    module = GradientModule(Convolution((1, 4), (5,)), PooledNorm(4, window=3))
    reach = module.reach()
    assert reach is not None
    assert reach.radius == 2 * (2 + 1)
