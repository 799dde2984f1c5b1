"""What is known of deepinv's classes: bounds on operators, noise levels."""

from __future__ import annotations

import pytest
import torch
from deepinv import physics
from torch import Tensor

from convexreg.solvers import Identity, operator_bounds
from convexreg.solvers.deepinv_rules import noise_level
from tests.oracles import matrix
from tests.physics import GRAY, PHYSICS, PhysicsCase, in_dtype, kernel
from tests.tables import over


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@over("case", PHYSICS)
def test_bounds_hold(
    case: PhysicsCase, dtype: torch.dtype, record_property: pytest.RecordProperty
) -> None:
    """Never below the largest eigenvalue of `A^T A`, exact where claimed; the smallest likewise."""
    for _ in range(5):
        operator = in_dtype(case.build(), dtype)
        x = torch.rand(1, *case.shape, dtype=dtype)
        bounds = operator_bounds(operator, x)
        dense = matrix(lambda basis, a=operator: a.A(basis.to(dtype)).double(), case.shape)
        eigenvalues = torch.linalg.eigvalsh(dense.T @ dense)
        largest = float(torch.as_tensor(bounds.largest))
        record_property("bound / norm", largest / float(eigenvalues[-1]))
        assert largest >= float(eigenvalues[-1])
        assert largest <= float(eigenvalues[-1]) * (1 + 3e-5 if case.exact else 6)
        smallest = float(torch.as_tensor(bounds.smallest))
        assert smallest <= float(eigenvalues[0]) + 1e-6
        if case.smallest:
            assert smallest >= float(eigenvalues[0]) * (1 - 3e-5) - 1e-6
        assert bounds.proof


@pytest.mark.parametrize("padding", ["valid", "circular", "replicate", "reflect"])
def test_one_blur_kernel_per_image(padding: str) -> None:
    kernels = torch.cat([kernel(3, 3), 3 * kernel(3, 3)])
    operator = physics.Blur(kernels, padding=padding).double()
    x = torch.rand(2, *GRAY).double()
    bounds = operator_bounds(operator, x)
    assert isinstance(bounds.largest, Tensor)
    assert bounds.largest.shape == (2,)
    for index in range(2):
        here = slice(index, index + 1)
        alone = physics.Blur(kernels[here], padding=padding).double()
        dense = matrix(alone.A, GRAY)
        assert bounds.largest[index] >= torch.linalg.matrix_norm(dense, 2) ** 2
        expected = operator_bounds(alone, x[here]).largest
        torch.testing.assert_close(bounds.largest[here], expected)


def test_one_mask_per_image() -> None:
    masks = torch.tensor([1.0, 0.5, 2.0]).reshape(3, 1, 1, 1) * torch.ones(3, *GRAY)
    masks[0, 0, 0, 0] = 0
    bounds = operator_bounds(physics.Inpainting(GRAY, mask=masks), torch.rand(3, *GRAY))
    expected = torch.tensor([1.0, 0.25, 4.0]).double()
    torch.testing.assert_close(bounds.largest, expected, rtol=2e-5, atol=0)
    expected[0] = 0
    torch.testing.assert_close(bounds.smallest, expected, rtol=2e-5, atol=0)


class SharperBlur(physics.Blur):
    """Somebody's operator: it inherits the filter, not what is done with it."""

    def A(self, x: Tensor, **kwargs) -> Tensor:
        return 5 * super().A(x, **kwargs)


@pytest.mark.parametrize(
    "operator",
    [
        SharperBlur(kernel(3, 3), padding="circular"),
        physics.LinearPhysics(A=lambda x: 9 * x, A_adjoint=lambda y: 9 * y),
        physics.Blur(kernel(3, 3)) * physics.Blur(kernel(3, 3)),
    ],
    ids=["subclass", "user", "composition"],
)
def test_unknown_physics_have_no_bound(operator) -> None:
    bounds = operator_bounds(operator, torch.rand(1, 1, 8, 8))
    assert bounds.largest == float("inf")
    assert bounds.smallest == 0
    assert "none" in bounds.proof


@pytest.mark.parametrize("fan_beam", [False, True])
@pytest.mark.parametrize(("side", "angles"), [(8, 4), (12, 30), (13, 7)])
def test_the_bound_of_tomography_holds(side: int, angles: int, fan_beam: bool) -> None:
    operator = physics.Tomography(angles=angles, img_width=side, normalize=True, fan_beam=fan_beam)
    dense = matrix(lambda basis: operator.A(basis.float()).double(), (1, side, side))
    assert dense.min() >= 0
    norm = float(torch.linalg.matrix_norm(dense, 2)) ** 2
    bound = float(torch.as_tensor(operator_bounds(operator, torch.rand(1, 1, side, side)).largest))
    assert norm <= bound <= 2 * norm


def test_a_wrong_adjoint_has_no_bound() -> None:
    """deepinv's, for kernels one pixel wide."""
    operator = physics.Blur(kernel(5, 1, positive=True), padding="replicate")
    x, y = torch.rand(2, 1, *GRAY).unbind()
    correct = torch.allclose((operator.A(x) * y).sum(), (x * operator.A_adjoint(y)).sum())
    bounds = operator_bounds(operator, x)
    assert correct == (torch.as_tensor(bounds.largest) < float("inf"))


def test_asking_for_bounds_leaves_the_physics_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    operator = physics.Blur(
        kernel(3, 3), padding="reflect", noise_model=physics.GaussianNoise(0.1, rng=generator)
    )
    before = operator.filter.clone()
    operator_bounds(operator, torch.rand(1, *GRAY))
    assert torch.equal(operator.filter, before)
    assert operator.filter.dtype == torch.float32


def test_a_mask_without_batch_and_channels_bounds_every_image_alike() -> None:
    mask = torch.linspace(0.1, 1, GRAY[-2]).double().reshape(-1, 1).expand(GRAY[-2:])
    operator = physics.Inpainting(GRAY, mask=mask)
    bounds = operator_bounds(operator, torch.rand(GRAY[-2], *GRAY).double())
    for bound, expected in ((bounds.largest, 1.0), (bounds.smallest, 0.01)):
        torch.testing.assert_close(bound, torch.tensor(expected).double(), rtol=2e-5, atol=0)


def test_the_identity_is_known_exactly() -> None:
    bounds = operator_bounds(Identity(), torch.rand(2, *GRAY))
    assert bounds.largest == bounds.smallest == 1


class OtherNoise(physics.GaussianNoise):
    """Somebody's noise: it inherits sigma, not what is done with it."""


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (physics.GaussianNoise(0.25), 0.25),
        (physics.PoissonGaussianNoise(gain=0.1, sigma=0.25), None),
        (physics.PoissonNoise(0.1), None),
        (physics.UniformNoise(0.1), None),
        (OtherNoise(0.25), None),
        (None, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_noise_level_is_said_by_gaussian_noise_alone(model, expected: float | None) -> None:
    level = noise_level(physics.Denoising(noise_model=model) if model else Identity())
    assert (level is None) == (expected is None)
    assert expected is None or float(torch.as_tensor(level)) == expected
