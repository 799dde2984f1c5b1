"""Derivatives of denoised images: against dense linear algebra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convexreg.models.config import ARCHITECTURES, Architecture
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers import ImplicitSolution, Proximity, QuasiNewton, Sum, minimise
from convexreg.solvers.curvature import Preconditioner
from tests.oracles import jacobian
from tests.problems import scenes, small_regularizer


def minimiser_of(
    regularizer: ConvexRegularizer, y: Tensor, sigma: Tensor, lam: Tensor | float
) -> Tensor:
    """The minimiser of `|x - y|^2 / 2 + lam R(x; sigma)`, to float64 rounding."""
    with torch.no_grad():
        objective = Sum([Proximity(y), regularizer.term(sigma)], [1.0, lam])
        return minimise(objective, y, QuasiNewton(), gtol=1e-16, max_iter=40, throw=False).x


def denoised(
    regularizer: ConvexRegularizer,
    y: Tensor,
    sigma: Tensor,
    lam: Tensor,
    tol: float = 1e-12,
    preconditioner: Preconditioner | None = None,
) -> tuple[Tensor, ImplicitSolution]:
    implicit = ImplicitSolution(tol=tol, preconditioner=preconditioner)
    x = implicit.attach(
        lambda x, y, sigma, lam: x - y + lam * regularizer.grad(x, sigma),
        minimiser_of(regularizer, y, sigma, lam),
        (y, sigma, lam),
        tuple(regularizer.parameters()),
    )
    return x, implicit


def chord(regularizer: ConvexRegularizer, y: Tensor, sigma: Tensor, lam: Tensor) -> Tensor:
    """The minimiser, then two Newton steps with the dense Hessian there held fixed.

    Each makes one more order of the derivatives right: `x - H^{-1} grad F(x; theta)` has a derivative
    in `x` that vanishes at the minimiser.
    """
    x = minimiser_of(regularizer, y, sigma, lam)
    inverses = []
    for i in range(x.shape[0]):
        hessian = jacobian(
            lambda z, i=i: z + lam.detach() * regularizer.grad(z, sigma[i].detach()), x[i : i + 1]
        )
        inverses.append(torch.linalg.inv(hessian))
    inverse = torch.stack(inverses)
    for _ in range(2):
        gradient = x - y + lam * regularizer.grad(x, sigma)
        x = x - torch.einsum("bij,bj->bi", inverse, gradient.flatten(1)).reshape(x.shape)
    return x


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_derivatives_of_a_denoised_image(architecture: Architecture) -> None:
    """Of order one and two, in the image, the noise level, the weight and every parameter."""
    regularizer = small_regularizer(architecture).requires_grad_(True)
    y = (scenes(2, 5, 6) + 0.05 * torch.randn(2, 1, 5, 6).double()).requires_grad_()
    sigma = torch.tensor([0.05, 0.2]).double().requires_grad_()
    lam = torch.tensor(0.7).double().requires_grad_()
    names = ["y", "sigma", "lam", *(name for name, _ in regularizer.named_parameters())]
    tensors = [y, sigma, lam, *regularizer.parameters()]
    weights, directions = torch.randn_like(y), [torch.randn_like(t) for t in tensors]

    def both(x: Tensor) -> tuple[tuple[Tensor | None, ...], tuple[Tensor | None, ...]]:
        first = torch.autograd.grad((weights * x.square()).sum(), tensors, create_graph=True)
        combined = sum((g * d).sum() for g, d in zip(first, directions, strict=True))
        assert isinstance(combined, Tensor)
        return first, torch.autograd.grad(combined, tensors, allow_unused=True)

    expected = both(chord(regularizer, y, sigma, lam))
    x, implicit = denoised(regularizer, y, sigma, lam)
    measured = both(x)
    assert implicit.residual is not None
    assert (implicit.residual <= 1e-12).all()
    for name, *pairs in zip(
        names,
        *(zip(m, e, strict=True) for m, e in zip(measured, expected, strict=True)),
        strict=True,
    ):
        for one, other in pairs:
            assert (one is None) == (other is None), name
            if one is not None:
                assert (one - other).norm() <= 1e-7 * other.norm() + 1e-10, name


def test_value_is_exactly_that_of_the_minimiser() -> None:
    regularizer = small_regularizer().float().requires_grad_(True)
    y = scenes(3).float()
    minimiser = y + 0.3 * torch.randn_like(y)  # far from optimal: a large residual
    x = ImplicitSolution().attach(
        lambda p, y: p - y + regularizer.grad(p, 0.1), minimiser, (y,), [*regularizer.parameters()]
    )
    assert torch.equal(x, minimiser)
    assert x.requires_grad


def test_images_are_independent() -> None:
    """Easy and hard images together, each with the derivatives it gets alone."""
    regularizer = small_regularizer().requires_grad_(False)
    y = scenes(3, 5, 6) + 0.1 * torch.randn(3, 1, 5, 6).double()
    sigma, lam = torch.tensor([0.02, 0.1, 0.4]).double(), torch.tensor(0.7).double()
    weights = torch.randn_like(y)

    def both(here: slice) -> tuple[Tensor, Tensor, Tensor]:
        point = y[here].clone().requires_grad_()
        x, implicit = denoised(regularizer, point, sigma[here], lam, tol=1e-4)
        (first,) = torch.autograd.grad((x.square() * weights[here]).sum(), point, create_graph=True)
        assert implicit.residual is not None
        (second,) = torch.autograd.grad((first * weights[here]).sum(), point)
        return first.detach(), second, implicit.residual

    together = both(slice(None))
    for i in range(3):
        here = slice(i, i + 1)
        for one, other in zip(both(here), together, strict=True):
            torch.testing.assert_close(one, other[here], rtol=1e-4, atol=1e-10)


def test_a_preconditioner_changes_the_work_and_not_the_result() -> None:
    regularizer = small_regularizer("crr", "circular")
    y = scenes(2, 8, 9) + 0.1 * torch.randn(2, 1, 8, 9).double()
    sigma, lam = torch.tensor([0.1, 0.1]).double(), torch.tensor(8.0).double()
    weights = torch.randn_like(y)
    objective = Sum([Proximity(y), regularizer.term(sigma)], [1.0, 8.0])
    model = objective.curvature(minimiser_of(regularizer, y, sigma, lam))
    assert model is not None
    results = []
    for preconditioner in (None, Preconditioner(model)):
        point = y.clone().requires_grad_()
        x, implicit = denoised(regularizer, point, sigma, lam, preconditioner=preconditioner)
        (x * weights).sum().backward()
        results.append((point.grad, implicit.iterations))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-8, atol=1e-10)
    assert results[1][1] < results[0][1]
