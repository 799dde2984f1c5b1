"""Reconstruction: every supported physics, per-image results, and refusals."""

from __future__ import annotations

import math

import deepinv
import pytest
import torch
from torch import Tensor

from convexreg import ConvexRegularizer, ModelConfig, reconstruct
from convexreg.reconstruction.defaults import GOOD_ANCHOR
from convexreg.reconstruction.start import starting_image
from convexreg.solvers import FISTA, Backtracking, FreeFISTA, GradientDescent, QuasiNewton, Status

SHAPE = (1, 24, 20)


@pytest.fixture
def regularizer() -> ConvexRegularizer:
    config = ModelConfig(channels=(1, 8), kernel_sizes=(5,))
    return config.build().double().requires_grad_(False)


@pytest.fixture
def image() -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(20), indexing="ij")
    return (0.3 + 0.4 * ((rows - 10) ** 2 + (columns - 9) ** 2 < 40))[None, None].double()


def _kernel() -> Tensor:
    kernel = torch.tensor([[1.0, 2.0, 1.0], [2.0, 5.0, 3.0], [0.0, 1.0, 2.0]]).double()
    return (kernel / kernel.sum())[None, None]


def _physics(name: str):
    mask = (torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) > 0.3).double()
    match name.split("-"):
        case ["denoising"]:
            return deepinv.physics.Denoising()
        case ["inpainting"]:
            return deepinv.physics.Inpainting(SHAPE, mask=mask)
        case ["blur", padding]:
            return deepinv.physics.Blur(_kernel(), padding=padding)
        case ["fft"]:
            return deepinv.physics.BlurFFT(SHAPE, _kernel())
        case ["downsampling"]:
            return deepinv.physics.Downsampling(SHAPE, filter=_kernel(), factor=2)
    raise AssertionError(name)


PHYSICS = (
    "denoising",
    "inpainting",
    "blur-valid",
    "blur-circular",
    "blur-replicate",
    "blur-reflect",
    "fft",
    "downsampling",
)


@pytest.mark.parametrize("name", PHYSICS)
def test_reaches_the_certificate_and_solvers_agree(name, regularizer, image):
    physics = _physics(name)
    sharp = physics.A(image)
    y = sharp + 0.05 * torch.randn_like(sharp)
    results = [
        reconstruct(
            y,
            physics,
            sigma=0.05,
            regularizer=regularizer,
            gap_tol=1e-4,
            solver=solver,
            max_iter=5000,
        )
        for solver in (QuasiNewton(), FreeFISTA(), FISTA(backtracking=Backtracking()))
    ]
    for result in results:
        assert result.converged, result.summary()
        assert float(result.certificate.relative_gap.max()) <= 1e-4
        assert result.image.shape == image.shape
    for result in results[1:]:
        assert (result.image - results[0].image).abs().max() < 0.03


@pytest.mark.parametrize("name", PHYSICS)
def test_a_batch_is_reconstructed_on_every_physics(name, regularizer, image):
    physics = _physics(name)
    y = physics.A(torch.cat([image, image.flip(2)]))
    together = reconstruct(y, physics, sigma=0.05, regularizer=regularizer)
    alone = reconstruct(y[1:], physics, sigma=0.05, regularizer=regularizer)
    assert together.image.shape == (2, *SHAPE)
    assert (together.image[1:] - alone.image).abs().max() < 1e-6


def test_what_lies_beyond_the_borders_is_extended(regularizer, image):
    """The unseen border of a blurred photograph starts from its surroundings, not from black."""
    kernel = torch.ones(1, 1, 9, 9).double() / 81
    physics = deepinv.physics.Blur(kernel, padding="valid")
    flat = torch.full_like(image, 0.7)
    assert (starting_image(physics.A(flat), physics, 0.02) - flat).abs().max() < 1e-6
    result = reconstruct(physics.A(image), physics, sigma=0.02, regularizer=regularizer)
    assert (result.image - image).square().mean().sqrt() < 0.12
    nothing = deepinv.physics.Inpainting(SHAPE, mask=torch.zeros(1, *SHAPE).double())
    dark = torch.zeros_like(image)
    assert torch.equal(starting_image(dark, nothing, 0.02), dark)


def test_unknown_linear_operator_is_backtracked_and_checked(regularizer, image):
    class Half:
        def A(self, x: Tensor) -> Tensor:
            return x / 2

        A_adjoint = A

    result = reconstruct(
        image / 2,
        Half(),
        sigma=0.05,
        regularizer=regularizer,
        solver=FISTA(backtracking=Backtracking()),
    )
    assert result.converged
    with pytest.raises(ValueError, match="no proven Lipschitz constant"):
        reconstruct(
            image / 2, Half(), sigma=0.05, regularizer=regularizer, solver=GradientDescent()
        )


def test_float32_is_certified_in_float64(regularizer, image):
    y = (image + 0.1 * torch.randn_like(image)).float()
    result = reconstruct(
        y, deepinv.physics.Denoising(), sigma=0.1, regularizer=regularizer.float(), gap_tol=1e-5
    )
    assert result.image.dtype == torch.float32
    assert result.certificate.gap.dtype == torch.float64
    assert float(result.certificate.relative_gap[0]) <= 1.2e-5


class Convertible(torch.nn.Module):
    """The identity, until it is converted to float64: then `scale` times it, or an error."""

    def __init__(self, scale: float | None) -> None:
        super().__init__()
        self.scale, self.factor = scale, 1.0

    def double(self) -> Convertible:
        if self.scale is None:
            raise TypeError("this operator computes in float32")
        self.factor = self.scale
        return self

    def A(self, x: Tensor) -> Tensor:
        return self.factor * x

    A_adjoint = A


def test_a_physics_that_conversion_changes_keeps_the_certificate_of_the_solver(regularizer, image):
    y = (image + 0.1 * torch.randn_like(image)).float()
    gaps = [
        reconstruct(
            y, Convertible(scale), sigma=0.1, regularizer=regularizer.float()
        ).certificate.gap
        for scale in (None, 1.001, 1.0)
    ]
    assert torch.equal(gaps[1], gaps[0])
    assert not torch.equal(gaps[2], gaps[0])


def test_a_bounded_box_needs_no_anchor(regularizer, image):
    """It makes a certificate possible, and the solve stops on that; the default has one all the same."""
    physics = _physics("blur-circular")
    y = physics.A(image) + 0.05 * torch.randn_like(image)
    options = {"sigma": 0.05, "regularizer": regularizer}
    boxed = reconstruct(y, physics, box=(0, 1), anchor=0, **options)
    assert boxed.converged
    assert float(boxed.certificate.relative_gap) <= 1e-2
    assert float(boxed.stationarity) > 1e-5
    for box in ((0, 1), (0, math.inf)):
        assert reconstruct(y, physics, box=box, **options).anchor == GOOD_ANCHOR


def test_each_image_of_a_batch_is_reconstructed_as_if_alone(regularizer, image):
    easy = torch.full_like(image, 0.5)
    y = torch.cat([image + 0.15 * torch.randn_like(image), easy, image])
    sigma = torch.tensor([0.15, 0.05, 0.02])
    physics = deepinv.physics.Denoising()
    together = reconstruct(y, physics, sigma=sigma, regularizer=regularizer)
    for index in range(3):
        alone = reconstruct(
            y[index : index + 1], physics, sigma=float(sigma[index]), regularizer=regularizer
        )
        # float(sigma) differs from the float32 tensor by one rounding
        assert (alone.image - together.image[index]).abs().max() < 1e-6
        assert alone.iterations[0] == together.iterations[index]


def test_colour_and_weights_per_image(regularizer, image):
    y = image.expand(2, 3, -1, -1) + 0.1 * torch.randn(2, 3, 24, 20).double()
    lam = torch.tensor([0.0, 1.0])
    result = reconstruct(
        y, deepinv.physics.Denoising(), sigma=0.1, regularizer=regularizer, lam=lam
    )
    assert (result.image[0] - y[0]).abs().max() < 1e-6
    assert (result.image[1] - y[1]).abs().max() > 0.01


def test_without_certificate_it_says_so(regularizer, image):
    physics = _physics("blur-circular")
    result = reconstruct(physics.A(image), physics, sigma=0.05, regularizer=regularizer, anchor=0)
    assert math.isinf(float(result.certificate.gap[0]))
    assert "no certificate" in result.summary()
    assert "gradient rms" in result.summary()


def test_iteration_limit_is_reported(regularizer, image):
    y = image + 0.1 * torch.randn_like(image)
    result = reconstruct(
        y,
        deepinv.physics.Denoising(),
        sigma=0.1,
        regularizer=regularizer,
        max_iter=1,
        gap_tol=1e-12,
    )
    assert not result.converged
    assert int(result.status[0]) == Status.MAX_ITERATIONS
    assert "max iterations after 1" in result.summary()


@pytest.mark.parametrize("lam", [1.0, "discrepancy", "sure"])
@pytest.mark.parametrize("name", ["crr", "mgradnet-m-adaptive"])
def test_inference_mode_changes_nothing(name, lam, image):
    physics = _physics("blur-circular").float()
    y = physics.A(image.float())
    options = {"sigma": 0.1, "lam": lam, "regularizer": name, "gtol": 1e-3}
    expected = reconstruct(y, physics, **options)
    with torch.inference_mode():
        result = reconstruct(y + 0, physics, **options)
    torch.testing.assert_close(result.image, expected.image, rtol=0, atol=1e-5)


def test_without_any_curvature_the_start_is_the_answer(regularizer, image):
    """No regularizer, and an operator that sees nothing in the middle, where its model is taken."""
    mask = torch.ones_like(image)
    mask[..., 8:16, 6:14] = 0
    physics = deepinv.physics.Inpainting(SHAPE, mask=mask[0])
    y = physics.A(image)
    result = reconstruct(
        y, physics, sigma=0.1, lam=0, regularizer=regularizer, box=(0, 1), anchor=0, gtol=1e-8
    )
    assert result.converged
    torch.testing.assert_close(physics.A(result.image), y)


@pytest.mark.parametrize("box", [None, (0.3, 0.7)])
def test_converged_is_what_the_certificate_says(box, regularizer, image):
    """In float64, also where the float32 solve stops at the limit of its precision."""
    y = (image + 0.1 * torch.randn_like(image)).float()
    physics, reached = deepinv.physics.Denoising(), []
    for tolerance in 10.0 ** -torch.arange(3, 18, 2).double():
        result = reconstruct(
            y,
            physics,
            sigma=0.1,
            regularizer=regularizer.float(),
            box=box,
            gap_tol=float(tolerance),
        )
        assert result.converged == bool(result.certificate.relative_gap <= tolerance)
        reached.append(result.converged)
    assert reached[0]
    assert not reached[-1]


def test_noise_levels_may_be_a_list(regularizer, image):
    y, physics = image.repeat(2, 1, 1, 1), deepinv.physics.Denoising()
    levels = torch.tensor([0.05, 0.1], dtype=torch.float64)
    images = [
        reconstruct(y, physics, sigma=sigma, regularizer=regularizer).image
        for sigma in (levels, levels.tolist())
    ]
    assert torch.equal(*images)
    assert torch.equal(regularizer.grad(y, levels.tolist()), regularizer.grad(y, levels))


def test_images_of_another_scale_are_noticed(regularizer, image):
    physics = deepinv.physics.Denoising()
    with pytest.warns(
        UserWarning, match=r"seem to reach 178\.5, but models know those in \[0, 1\]"
    ):
        reconstruct(255 * image, physics, sigma=0.1, regularizer=regularizer)
