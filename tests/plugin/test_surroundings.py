"""What surrounds a call does not change it, and a call changes nothing around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import deepinv
import pytest
import torch
from torch import Tensor

from convexreg import (
    ConvexDenoiser,
    ConvexPrior,
    ConvexReconstructor,
    ConvexRegularizer,
    reconstruct,
)
from convexreg.solvers import Progress
from tests.plugin.conftest import SIGMA
from tests.problems import scenes, small_regularizer
from tests.tables import over

Call = Callable[[ConvexRegularizer, Tensor], Tensor]
DENOISING = deepinv.physics.Denoising()
CALLS: dict[str, Call] = {
    "denoiser": lambda r, y: ConvexDenoiser(r)(y, SIGMA),
    "value": lambda r, y: ConvexPrior(r).fn(y, SIGMA),
    "gradient": lambda r, y: ConvexPrior(r).grad(y, SIGMA),
    "prox": lambda r, y: ConvexPrior(r).prox(y, SIGMA, gamma=0.7),
    "reconstructor": lambda r, y: ConvexReconstructor(r, sigma=SIGMA)(y, DENOISING),
}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default-float64": lambda: default_dtype(torch.float64),
}


@over("call", CALLS)
@over("around", SURROUNDINGS)
def test_surroundings_change_neither_result_nor_derivatives(around, call: Call) -> None:
    regularizer = small_regularizer().float().requires_grad_()
    y = (scenes(2) + SIGMA * torch.randn(2, 1, 7, 8).double()).float()
    inputs = [y.requires_grad_(), *regularizer.parameters()]
    probe = torch.randn_like(call(regularizer, y))

    def everything() -> list[Tensor]:
        result = call(regularizer, y)
        return [result.detach(), *torch.autograd.grad((result * probe).sum(), inputs)]

    right = everything()
    with around():
        found = everything()
    assert [tensor.dtype for tensor in found] == [tensor.dtype for tensor in right]
    assert all(torch.equal(one, other) for one, other in zip(found, right, strict=True))


@pytest.mark.parametrize("around", SURROUNDINGS)
def test_surroundings_do_not_change_a_reconstruction(around: str) -> None:
    y = scenes(1, 12, 12).float()
    right = reconstruct(y, DENOISING, sigma=SIGMA)
    with SURROUNDINGS[around]():
        result = reconstruct(y, DENOISING, sigma=SIGMA)
    assert result.converged
    assert torch.equal(result.image, right.image)


@pytest.mark.parametrize("build", [ConvexPrior, ConvexDenoiser, ConvexReconstructor])
def test_building_by_name_leaves_random_numbers_alone(build) -> None:
    before = torch.get_rng_state()
    build("mgradnet-m")
    assert torch.equal(torch.get_rng_state(), before)


def test_reconstructing_by_name_leaves_random_numbers_alone() -> None:
    y, before = scenes(1).float(), torch.get_rng_state()
    reconstruct(y, DENOISING, sigma=SIGMA, regularizer="mgradnet-m")
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_callback_keeps_is_one_batch_of_images() -> None:
    """Of a solver's own state, directions and matrices, nothing."""
    y, seen = scenes(2), list[Progress]()
    model = ConvexReconstructor(
        small_regularizer(), sigma=SIGMA, callback=seen.append, gap_tol=1e-6
    )
    model(y, DENOISING)
    assert len(seen) > 1
    for progress in seen:
        held = [value for value in vars(progress).values() if isinstance(value, Tensor)]
        assert sum(tensor.numel() for tensor in held) <= y.numel() + 8 * len(y)
