"""Regularizers that users bring, and what is said of them and of their solvers."""

from __future__ import annotations

from typing import Any

import deepinv
import pytest
import torch
from torch import Tensor

from convexreg import reconstruct
from convexreg.solvers import QuasiNewton
from tests.problems import scenes, small_regularizer
from tests.tables import over

Y = scenes(2, 8, 9)


class Ridge:
    """`|x|^2 / 2`, with a noise level that it makes no use of."""

    def energy(self, x: Tensor, sigma: Any) -> Tensor:
        return x.flatten(1).square().sum(1) / 2

    def grad(self, x: Tensor, sigma: Any) -> Tensor:
        return x


class Plain:
    """The same of the image alone."""

    lipschitz = 1.0

    def energy(self, x: Tensor) -> Tensor:
        return x.flatten(1).square().sum(1) / 2

    def grad(self, x: Tensor) -> Tensor:
        return x

    def strong_convexity(self) -> float:
        return 1.0


class Stated(deepinv.optim.Prior):
    """A deepinv prior that states its constants."""

    lipschitz, strong_convexity = 1.0, 1.0

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return x.flatten(1).square().sum(1) / 2

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return x


SHRINKING = {
    "energy and gradient": Ridge,
    "of the image alone": Plain,
    "stated": Stated,
    "tikhonov": deepinv.optim.Tikhonov,
}


@over("build", SHRINKING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_quadratic_of_any_kind_shrinks_the_image(build: Any, dtype: torch.dtype) -> None:
    result = reconstruct(
        Y.to(dtype), deepinv.physics.Denoising(), sigma=0.1, regularizer=build(), lam=0.5
    )
    assert result.converged
    assert result.certificate.dtype == torch.float64
    torch.testing.assert_close(result.image, Y.to(dtype) / 1.5, rtol=0, atol=0.02)


def test_an_objective_is_a_term() -> None:
    term = small_regularizer().term(0.1)
    options = {"sigma": 0.1, "gap_tol": 1e-9}
    physics = deepinv.physics.Denoising()
    own = reconstruct(Y, physics, regularizer=term, **options).image
    torch.testing.assert_close(
        own, reconstruct(Y, physics, regularizer=small_like(term), **options).image
    )


def small_like(term: Any) -> Any:
    return term.regularizer


def test_smoothed_total_variation() -> None:
    prior = deepinv.optim.prior.SmoothedTVPrior(eps=0.05)
    result = reconstruct(Y, deepinv.physics.Denoising(), sigma=0.1, regularizer=prior, lam=0.1)
    assert result.converged


@pytest.mark.parametrize(
    "thing",
    [3, object(), torch.zeros(3), lambda x: x],
    ids=["number", "object", "tensor", "function"],
)
def test_nonsense_is_told_what_is_accepted(thing: Any) -> None:
    with pytest.raises(TypeError, match="energy"):
        reconstruct(Y, deepinv.physics.Denoising(), sigma=0.1, regularizer=thing)


def test_a_prior_without_constants_is_told_so() -> None:
    with pytest.raises(ValueError, match="no constants are known"):
        reconstruct(Y, deepinv.physics.Denoising(), sigma=0.1, regularizer=deepinv.optim.TVPrior())


def test_single_precision_is_said() -> None:
    class Single(Ridge):
        def grad(self, x: Tensor, sigma: Any) -> Tensor:
            return x.float()

    result = reconstruct(Y.float(), deepinv.physics.Denoising(), sigma=0.1, regularizer=Single())
    assert result.certificate.dtype == torch.float32
    assert "computes in torch.float32" in result.summary()


def test_a_solver_of_ones_own_makes_no_claim() -> None:
    class Mine(QuasiNewton):
        @property
        def description(self) -> str:
            return type(self).__name__

    options = {"sigma": 0.1, "regularizer": small_regularizer()}
    result = reconstruct(Y, deepinv.physics.Denoising(), solver=Mine(), **options)
    assert result.method == "Mine"
    assert len(repr(result)) < 400
    assert "tensor" not in repr(result)


def test_mixed_batches_cost_the_sum_of_their_members() -> None:
    """Images that have stopped are not evaluated; within a line search they wait for each other."""

    class Counted(Ridge):
        images = 0

        def grad(self, x: Tensor, sigma: Any) -> Tensor:
            self.images += x.shape[0]
            return (1 + 50 * x**2) * x

        def energy(self, x: Tensor, sigma: Any) -> Tensor:
            return (x**2 / 2 + 12.5 * x**4).flatten(1).sum(1)

    y = torch.cat([torch.zeros(3, 1, 8, 9).double(), Y])
    counts = []
    for part in (y, *(y[i : i + 1] for i in range(5))):
        counted = Counted()
        reconstruct(part, deepinv.physics.Denoising(), sigma=0.1, regularizer=counted, gap_tol=1e-9)
        counts.append(counted.images)
    assert counts[0] <= 1.5 * sum(counts[1:]) < 0.75 * 5 * max(counts[1:])


@pytest.mark.parametrize("method", ["energy", "grad"])
def test_shapes_are_asked_for(method: str) -> None:
    brought = Ridge()
    setattr(brought, method, lambda x, sigma: x.sum())
    with pytest.raises(ValueError, match=f"{method} of the regularizer Ridge must return"):
        reconstruct(Y, deepinv.physics.Denoising(), sigma=0.1, regularizer=brought)
