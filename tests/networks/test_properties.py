"""Operators, networks and their bounds on whatever shapes, scales and parameters are drawn.

Some hundred examples; ten thousand with `pytest --hypothesis-profile nightly`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from convexreg.networks.base import GradientNetwork
from convexreg.networks.blocks import BlockNetwork
from convexreg.networks.conditioning import NoiseScaling
from convexreg.networks.evaluation import Evaluation
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution
from convexreg.networks.potentials import (
    LinearSpline,
    LogCosh,
    LogSumExp,
    PooledNorm,
    Potential,
    PseudoHuber,
    ScaledSigmoids,
    TanhMixture,
)
from tests.oracles import gradient, in_float64, jacobian, largest_eigenvalues, matrix

POTENTIALS = {
    "log-cosh": lambda width: LogCosh(),
    "pseudo-huber": lambda width: PseudoHuber(),
    "sigmoids": lambda width: ScaledSigmoids(width, 3),
    "tanh": TanhMixture,
    "spline": lambda width: LinearSpline(1, 7, 2.0),
    "groups": lambda width: PooledNorm(width, group_size=2, learned=True),
    "softmax": lambda width: LogSumExp(2, temperature=0.7, symmetric=True),
}


@dataclass(frozen=True)
class Drawn:
    """A network on blocks of a side, what it is made of, the shape of its images and their scale."""

    operator: Convolution
    network: GradientNetwork
    block: int
    size: tuple[int, int]
    scale: float
    sigma: float

    def images(self, count: int = 1) -> Tensor:
        channels = self.operator.in_channels // self.block**2
        return self.scale * torch.randn(count, channels, *self.size, dtype=torch.float64)


def scales(low: int, high: int) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


@st.composite
def networks(draw: st.DrawFn) -> Drawn:
    """One module of one to five channels, images smaller and larger than its kernels, wild parameters."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    stages = draw(st.integers(1, 3))
    block = draw(st.sampled_from([1, 1, 2, 3]))
    channels = draw(st.integers(1, 5 if block == 1 else 2))
    width = 2 * draw(st.integers(1, 4))
    sizes = draw(st.lists(st.sampled_from([1, 3, 5, 7]), min_size=stages, max_size=stages))
    circular = block == 1 and draw(st.booleans())
    radius = sum(kernel // 2 for kernel in sizes) if circular else 1
    size = draw(st.tuples(*[st.integers(max(1, radius), max(6, radius + 3))] * 2))
    operator = Convolution(
        (channels * block**2, *[3] * (stages - 1), width),
        sizes,
        padding="circular" if circular else "zero",
        zero_mean=draw(st.booleans()),
        staged=draw(st.booleans()),
        block=block,
    )
    strength, empty = draw(scales(-6, 3)), draw(st.integers(0, width))
    with torch.no_grad():
        operator.kernels[0].mul_(strength)
        operator.kernels[-1][:empty].zero_()
    potential: Potential = POTENTIALS[draw(st.sampled_from(sorted(POTENTIALS)))](width)
    conditioning = None
    if draw(st.booleans()):
        groups = potential.groups(width)
        conditioning = NoiseScaling(width, groups, sigma_min=0.02, sigma_max=0.5, knots=3)
        with torch.no_grad():
            for parameter in conditioning.parameters():
                parameter.add_(draw(st.floats(-8, 8)) + torch.randn_like(parameter))
    module = GradientModule(
        operator, potential, bias=draw(st.booleans()), conditioning=conditioning
    )
    network: GradientNetwork = module.double().eval().requires_grad_(False)
    if block > 1:
        network = BlockNetwork(network, block)
    return Drawn(operator, network, block, size, draw(scales(-6, 6)), draw(scales(-1.6, -0.4)))


def close(actual: Tensor, expected: Tensor, size: Tensor | float, digits: float = 1e-12) -> None:
    """To rounding, relative to the size of what was added up."""
    assert (actual - expected).abs().max() <= digits * float(size) + 1e-300


@given(networks())
def test_the_adjoint_is_one(drawn: Drawn) -> None:
    operator, (height, width) = drawn.operator, (-(-side // drawn.block) for side in drawn.size)
    x = drawn.scale * torch.randn(2, operator.in_channels, height, width).double()
    response = operator(x)
    z = torch.randn_like(response)
    products = (response * z).sum(), (x * operator.adjoint(z)).sum()
    sizes = operator.squared_norm().double().sqrt() * x.norm() * z.norm()
    close(products[0], products[1], sizes)


@given(networks(), st.booleans())
def test_bounds_of_operators_are_never_below_the_truth(drawn: Drawn, single: bool) -> None:
    operator = drawn.operator.float() if single else drawn.operator
    height, width = (-(-side // drawn.block) for side in drawn.size)
    dense = matrix(in_float64(operator), (operator.in_channels, height, width))
    kind = operator.kernels[0].dtype
    weights = (10 ** (6 * torch.rand(1, operator.out_channels) - 3)).to(kind)
    (truth,) = largest_eigenvalues(dense, weights)
    for grid in (None, (height, width)):
        assert operator.squared_norm(weights[0], grid).double() >= truth * (1 - 1e-12)


@given(networks())
def test_jacobians_are_symmetric_positive_and_bounded(drawn: Drawn) -> None:
    network, x = drawn.network, drawn.images()
    dense = jacobian(lambda points: network(points, drawn.sigma), x)
    size = network.lipschitz(
        None, drawn.sigma
    )  # what saturates is the small difference of larger numbers
    close(dense, dense.T, size)
    eigenvalues = torch.linalg.eigvalsh(dense)
    assert eigenvalues[0] >= -1e-10 * float(size) - 1e-300
    for grid in (drawn.size, None):
        assert network.lipschitz(grid, drawn.sigma) >= eigenvalues[-1] * (1 - 1e-12)


@given(networks())
def test_the_gradient_is_that_of_the_energy(drawn: Drawn) -> None:
    network, x = drawn.network, drawn.images(2)
    grad = network(x, drawn.sigma)
    by_energy = gradient(lambda points: network.potential(points, drawn.sigma), x)
    # automatic differentiation of an energy near its minimum adds slopes up that cancel
    slopes = network(1e12 * x, drawn.sigma).abs().max()
    close(grad, by_energy, 1e-8 * grad.abs().max() + 1e-13 * slopes, 1.0)


@given(networks())
def test_evaluations_are_the_network_and_images_of_a_batch_alone(drawn: Drawn) -> None:
    network, x = drawn.network, drawn.images(3)
    value, grad = network.value_and_grad(x, drawn.sigma)
    evaluation = Evaluation(network, drawn.sigma)
    first, again = evaluation.value_and_grad(x), evaluation.value_and_grad(x)
    for result, repeated in zip(first, again, strict=True):
        assert result is not None
        assert torch.equal(result, repeated)
    size = network.lipschitz(None, drawn.sigma).double() * x.abs().max() + grad.abs().max()
    assert first[1] is not None
    close(first[1], grad, size)
    for number in range(3):
        alone = Evaluation(network, drawn.sigma).value_and_grad(x[number : number + 1])
        assert alone[0] is not None
        assert alone[1] is not None
        close(alone[1][0], grad[number], size)
        close(alone[0][0], value[number], value.abs().max() + size * x.abs().max())
