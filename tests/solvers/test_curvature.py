"""Models of `A^T A`: exact where that is claimed, good preconditioners elsewhere."""

from __future__ import annotations

import pytest
import torch
from deepinv import physics
from torch import Tensor

from convexreg.solvers import LeastSquares, operator_bounds
from convexreg.solvers.curvature import Preconditioner, SumPreconditioner, probed_curvature
from tests.oracles import matrix
from tests.physics import COLOUR, GRAY, PHYSICS, PhysicsCase, kernel
from tests.tables import over

MASKS = {
    name: case for name, case in PHYSICS.items() if "inpainting" in name or name == "demosaicing"
}
CIRCULAR = {
    name: case for name, case in PHYSICS.items()
    if name.startswith(("fft", "blur-circular")) and "colour" not in name and "even" not in name
}  # fmt: skip
PADDINGS = ["valid", "circular", "replicate", "reflect"]


def normal_matrix(operator, shape: tuple[int, ...]) -> Tensor:
    dense = matrix(operator.A, shape)
    return dense.T @ dense


def modelled(operator, x: Tensor):
    model = LeastSquares(operator, operator.A(x), operator_bounds(operator, x)).curvature(x)
    assert model is not None
    return model


@over("case", MASKS)
def test_the_diagonal_of_a_mask_is_exact(case: PhysicsCase) -> None:
    """Whichever pixels it sees."""
    for _ in range(5):
        operator = case.build().double()
        x = torch.rand(1, *case.shape).double()
        diagonal = normal_matrix(operator, case.shape).diagonal().reshape(x.shape)
        model = modelled(operator, x)
        torch.testing.assert_close(model.diagonal.expand_as(x), diagonal)
        torch.testing.assert_close(probed_curvature(operator, x).diagonal, diagonal)
        level = diagonal.mean()
        torch.testing.assert_close(model.symbol, torch.full_like(model.symbol, float(level)))


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("padding", PADDINGS)
def test_the_diagonal_of_a_filter_is_exact_in_the_interior(padding: str, factor: int) -> None:
    """And everywhere without padding, or with a circular one."""
    shape, taps = (1, 12, 14), kernel(3, 5)
    if factor == 1:
        operator = physics.Blur(taps, padding=padding).double()
    else:
        operator = physics.Downsampling(shape, filter=taps, factor=factor, padding=padding).double()
    x = torch.rand(1, *shape).double()
    expected = normal_matrix(operator, shape).diagonal().reshape(x.shape)
    diagonal = modelled(operator, x).diagonal.expand_as(x)
    inside = ... if padding in ("valid", "circular") else (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(diagonal[inside], expected[inside], rtol=1e-6, atol=1e-9)


@over("case", CIRCULAR)
def test_a_circulant_operator_is_its_own_model(case: PhysicsCase) -> None:
    operator = case.build().double()
    x = torch.rand(1, *case.shape).double()
    height, width = case.shape[1:]
    normal = normal_matrix(operator, case.shape)
    spectrum = torch.fft.rfft2(normal[:, 0].reshape(height, width)).real[None, None]
    for model in (modelled(operator, x), probed_curvature(operator, x)):
        shape = model.symbol / model.symbol.mean() * spectrum.mean()
        torch.testing.assert_close(shape, spectrum, rtol=1e-5, atol=1e-6)
    model = modelled(operator, x)
    torch.testing.assert_close(model.symbol, spectrum, rtol=1e-5, atol=1e-6)
    diagonal = normal.diagonal().reshape(x.shape)
    torch.testing.assert_close(model.diagonal.expand_as(x), diagonal, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("precondition", [Preconditioner, SumPreconditioner])
@over("case", PHYSICS)
def test_preconditioners_descend(case: PhysicsCase, precondition) -> None:
    operator = case.build().double()
    x = torch.rand(1, *case.shape).double()
    model = modelled(operator, x)
    applied = precondition(model.plus(model, torch.tensor(0.1).double()))
    for _ in range(3):
        v = torch.randn_like(x)
        assert float((v * applied(v)).sum()) > 0
    if precondition is Preconditioner:
        inverse = matrix(applied, case.shape)
        torch.testing.assert_close(inverse, inverse.T)


def test_the_model_of_weights_per_channel_knows_their_mean() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0]).double().reshape(3, 1, 1)
    operator = physics.Inpainting(COLOUR, mask=weights.expand(COLOUR))
    model = modelled(operator, torch.rand(2, *COLOUR).double())
    torch.testing.assert_close(model.symbol, torch.full_like(model.symbol, 14 / 3))
    expected = weights.square().expand(1, *COLOUR)
    torch.testing.assert_close(model.diagonal.expand(1, *COLOUR), expected)


def test_probing_leaves_the_random_state_alone_and_repeats_itself() -> None:
    operator = physics.Blur(kernel(3, 3), padding="reflect").double()
    x, state = torch.rand(1, *GRAY).double(), torch.get_rng_state()
    first, second = probed_curvature(operator, x), probed_curvature(operator, x)
    assert torch.equal(first.diagonal, second.diagonal)
    assert torch.equal(state, torch.get_rng_state())


def test_a_data_term_probes_its_operator_once() -> None:
    calls = 0

    class Blur:
        inner = physics.Blur(kernel(3, 3), padding="circular")

        def A(self, x: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return self.inner.A(x)

        def A_adjoint(self, y: Tensor) -> Tensor:
            return self.inner.A_adjoint(y)

    x = torch.rand(1, *GRAY)
    term = LeastSquares(Blur(), x)
    term.curvature(x)
    before = calls
    for _ in range(5):
        term.curvature(x)
    assert calls - before <= 5  # where the second derivative is taken
