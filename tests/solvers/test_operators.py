"""Forward operators: the test of their adjoints, and their versions in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from deepinv import physics
from torch import Tensor

from convexreg.solvers import Identity, LeastSquares, PrecisionError, minimise
from convexreg.solvers.operators import acts_on_each_image, check_adjoint, operator_in_float64
from tests.physics import GRAY, PHYSICS, PhysicsCase, in_dtype, kernel
from tests.problems import SOLVERS, SolverCase
from tests.tables import over

BLUR = physics.Blur(kernel(3, 3), padding="circular")


class Operator:
    """Made of two functions."""

    def __init__(self, A: Callable[[Tensor], Tensor], A_adjoint: Callable[[Tensor], Tensor]):
        self.A, self.A_adjoint = A, A_adjoint


def scaled() -> Operator:
    return Operator(BLUR.A, lambda y: BLUR.A_adjoint(y) / 2)


def transposed() -> Operator:
    other = physics.Blur(BLUR.filter.mT.contiguous(), padding="circular")
    return Operator(BLUR.A, other.A_adjoint)


def wrong_beyond_the_range() -> Operator:
    """`A` leaves the second half of the measurements empty; the adjoint reads them all the same."""
    return Operator(
        lambda x: torch.cat([x, torch.zeros_like(x)], 3), lambda y: y[..., :8] + y[..., 8:]
    )


WRONG = {
    "scaled": scaled,
    "transposed": transposed,
    "beyond the range": wrong_beyond_the_range,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@over("case", PHYSICS)
def test_right_adjoints_pass(case: PhysicsCase, dtype: torch.dtype) -> None:
    check_adjoint(in_dtype(case.build(), dtype), torch.rand(2, *case.shape, dtype=dtype))


@over("build", WRONG)
@over("case", SOLVERS)
def test_wrong_adjoints_are_refused_by_every_solver(case: SolverCase, build) -> None:
    operator = build()
    y = operator.A(torch.rand(2, *GRAY))
    term = LeastSquares(operator, y)
    with pytest.raises(ValueError, match="not the adjoint"):
        minimise(term, torch.zeros(2, *GRAY), case.solver, gtol=1e-3)


@pytest.mark.parametrize(
    "function",
    [lambda x: x.clamp(0.2, 0.6), lambda x: x + 1, torch.sin],
    ids=["clamp", "+1", "sin"],
)
def test_what_is_not_linear_is_refused(function) -> None:
    with pytest.raises(ValueError, match="not linear"):
        check_adjoint(Operator(function, lambda y: y), torch.rand(1, *GRAY))


def test_an_adjoint_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not the adjoint"):
        check_adjoint(Operator(lambda x: x, lambda y: y * float("nan")), torch.rand(1, *GRAY))


@over("case", PHYSICS)
def test_float64_versions_are_copies_that_agree(case: PhysicsCase) -> None:
    operator = case.build().float()
    x = torch.rand(1, *case.shape)
    before = operator.A(x)
    exact = operator_in_float64(operator, x)
    assert exact.A(x.double()).dtype == torch.float64
    torch.testing.assert_close(exact.A(x.double()).float(), before, rtol=1e-4, atol=1e-5)
    assert torch.equal(operator.A(x), before)
    assert operator.A(x).dtype == torch.float32


def raising(error: Exception) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        if x.dtype == torch.float64:
            raise error
        return x

    return function


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (raising(RuntimeError("no kernel for Double")), "no kernel for Double"),
        (raising(TypeError("single only")), "single only"),
        (lambda x: x.float(), "computes in torch.float32"),
        (lambda x: x * (1.001 if x.dtype == torch.float64 else 1), "another operator"),
    ],
)
def test_operators_without_float64_say_why(function, message: str) -> None:
    with pytest.raises(PrecisionError, match=message):
        operator_in_float64(Operator(function, function), torch.rand(1, *GRAY))


def test_other_errors_are_not_swallowed() -> None:
    for error in (torch.OutOfMemoryError("out of memory"), KeyError("a fault of its own")):
        function = raising(error)
        with pytest.raises(type(error)):
            operator_in_float64(Operator(function, function), torch.rand(1, *GRAY))


def test_operators_that_act_on_each_image() -> None:
    y, index = torch.rand(3, *GRAY), torch.tensor([1])
    masks = physics.Inpainting(GRAY, mask=(torch.rand(3, *GRAY) > 0.5).float())
    for operator, expected in ((Identity(), True), (BLUR, True), (masks, False)):
        assert acts_on_each_image(operator, y, index) == expected

    def exhausted(x: Tensor) -> Tensor:
        if len(x) < 3:
            raise torch.OutOfMemoryError("out of memory")
        return x

    with pytest.raises(torch.OutOfMemoryError):
        acts_on_each_image(Operator(exhausted, exhausted), y, index)
