"""Second derivatives through everything that solves a problem, on a small photograph-like scene."""

from __future__ import annotations

from collections.abc import Callable

import deepinv
import pytest
import torch
from torch import Tensor

from convexreg import ConvexDenoiser, ConvexPrior, ConvexReconstructor
from tests.oracles import jacobian
from tests.plugin.conftest import SIGMA, TOL
from tests.problems import scenes, small_regularizer
from tests.tables import over
from tests.test_adaptive import adaptive

CLASSES: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "denoiser": lambda: lambda y: ConvexDenoiser(small_regularizer(), tol=TOL)(y, SIGMA),
    "prox": lambda: lambda y: ConvexPrior(small_regularizer(), prox_tol=TOL).prox(y, SIGMA),
    "reconstructor": lambda: lambda y: ConvexReconstructor(
        small_regularizer(), sigma=SIGMA, gap_tol=1e-12, max_iter=3000
    )(y, deepinv.physics.Denoising()),
    "reconstructor in two rounds": lambda: lambda y: ConvexReconstructor(
        adaptive(), sigma=SIGMA, gap_tol=1e-12, max_iter=3000
    )(y, deepinv.physics.Denoising()),
}


def built(build: Callable[[], Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    """With the same weights in every call."""

    def function(y: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return build()(y)

    return function


@over("build", CLASSES)
def test_hessian_products_are_differences_of_gradients(build) -> None:
    """The gradient is compared with differences of the image elsewhere."""
    function = built(build)
    y = scenes(1, 6, 7) + SIGMA * torch.randn(1, 1, 6, 7).double()
    v = torch.randn_like(y)

    def slope(z: Tensor, *, create_graph: bool = False) -> Tensor:
        cubes = function(z).pow(3).sum()
        return torch.autograd.grad(cubes, z, create_graph=create_graph)[0]

    step = 1e-5
    above, below = (slope((y + sign * step * v).requires_grad_()) for sign in (1, -1))
    z = y.clone().requires_grad_()
    (product,) = torch.autograd.grad((slope(z, create_graph=True) * v).sum(), z)
    right = (above - below) / (2 * step)
    assert (product - right).norm() < 1e-3 * right.norm()


@pytest.mark.parametrize("name", ["denoiser", "prox"])
def test_deepinvs_norm_of_the_jacobian_is_that_of_the_dense_one(name: str) -> None:
    function = built(CLASSES[name])
    y = scenes(1, 6, 7) + SIGMA * torch.randn(1, 1, 6, 7).double()
    right = float(torch.linalg.matrix_norm(jacobian(function, y), 2))
    z = y.clone().requires_grad_()
    loss = deepinv.loss.JacobianSpectralNorm(max_iter=200, tol=1e-8, eval_mode=True)
    assert loss(function(z), z).item() == pytest.approx(right, rel=1e-2)
    assert right <= 1 + 1e-6
