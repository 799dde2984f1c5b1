"""Every linear physics of deepinv gives a certified result, or an error that says what to do."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest
import torch
from deepinv import physics
from deepinv.physics import GaussianNoise, LinearPhysics
from deepinv.physics.phase_retrieval import PtychographyLinearOperator
from deepinv.physics.ultrasound import UltrasoundPlaneWave
from deepinv.physics.virtual import VirtualLinearPhysics
from deepinv.physics.wrappers import LinearPhysicsMultiScaler, PhysicsCropper
from deepinv.transform import Shift
from torch import Tensor

from convexreg import ConvexReconstructor, reconstruct
from convexreg.reconstruction.arrangement import Arrangement
from convexreg.solvers import operator_bounds
from tests.oracles import matrix
from tests.physics import kernel
from tests.problems import scenes
from tests.tables import over

SIDE = 12
GRAY, COLOUR = (1, SIDE, SIDE), (3, SIDE, SIDE)
LEVEL = 0.05


def noise(level: float = LEVEL) -> GaussianNoise:
    return GaussianNoise(level, rng=torch.Generator().manual_seed(0))


def blur() -> LinearPhysics:
    return physics.Blur(kernel(3, 3, positive=True), padding="valid", noise_model=noise())


def blur_same() -> LinearPhysics:
    return physics.Blur(kernel(3, 3, positive=True), padding="circular")


def complex_sensing(count: int, shape: tuple[int, int, int]) -> LinearPhysics:
    with warnings.catch_warnings():  # PyTorch's, of modules with complex tensors
        warnings.simplefilter("ignore", UserWarning)
        return physics.CompressedSensing(count, shape, dtype=torch.cfloat, noise_model=noise())


def mask(*shape: int) -> Tensor:
    return (torch.rand(*shape) > 0.4).float()


def coils() -> Tensor:
    return torch.randn(3, SIDE, SIDE, dtype=torch.complex64) / 3**0.5


def every_second_row() -> LinearPhysics:
    def back(y: Tensor, **_: Any) -> Tensor:
        x = y.new_zeros(*y.shape[:-2], SIDE, SIDE)
        x[..., ::2, :] = y
        return x

    return LinearPhysics(A=lambda x, **_: x[..., ::2, :], A_adjoint=back, noise_model=noise())


@dataclass(frozen=True)
class Case:
    """A physics on images of `shape`.

    :ivar error: what is said where it cannot be used.
    :ivar sigma: given where the physics does not say it.
    """

    build: Callable[[], LinearPhysics]
    shape: tuple[int, ...] = GRAY
    complex: bool = False
    error: str = ""
    sigma: float | None = None


NO_ADJOINT = "A_adjoint is not the adjoint of A .*adjoint_function"
CASES = {
    "Denoising": Case(lambda: physics.Denoising(noise())),
    "Denoising, complex": Case(lambda: physics.Denoising(noise()), complex=True),
    "Inpainting": Case(lambda: physics.Inpainting(GRAY, mask=0.6, noise_model=noise())),
    "Demosaicing": Case(lambda: physics.Demosaicing(COLOUR, noise_model=noise()), COLOUR),
    "Blur": Case(blur),
    "BlurFFT": Case(lambda: physics.BlurFFT(GRAY, filter=kernel(3, 3), noise_model=noise())),
    "SpaceVaryingBlur": Case(
        lambda: physics.SpaceVaryingBlur(
            filters=torch.rand(1, 1, 2, 3, 3) / 9,
            multipliers=torch.rand(1, 1, 2, SIDE, SIDE),
            padding="valid",
            noise_model=noise(),
        )
    ),
    "TiledSpaceVaryingBlur": Case(
        lambda: physics.TiledSpaceVaryingBlur(
            filters=torch.rand(1, 1, 4, 3, 3) / 9, patch_size=6, stride=6, noise_model=noise()
        )
    ),
    "Downsampling": Case(
        lambda: physics.Downsampling(GRAY, filter="bilinear", factor=2, noise_model=noise())
    ),
    "DownsamplingMatlab": Case(
        lambda: physics.DownsamplingMatlab(img_size=GRAY, factor=2, noise_model=noise())
    ),
    "Upsampling": Case(
        lambda: physics.Upsampling(
            (1, 2 * SIDE, 2 * SIDE), filter="bilinear", factor=2, noise_model=noise()
        )
    ),
    "MRI": Case(
        lambda: physics.MRI(mask(SIDE, SIDE), img_size=(SIDE, SIDE), noise_model=noise()),
        (2, SIDE, SIDE),
    ),
    "MRI, volume": Case(
        lambda: physics.MRI(mask(1, 2, 4, SIDE, SIDE), three_d=True, noise_model=noise()),
        (2, 4, SIDE, SIDE),
    ),
    "MultiCoilMRI": Case(
        lambda: physics.MultiCoilMRI(
            mask(SIDE, SIDE), coil_maps=coils(), img_size=(2, SIDE, SIDE), noise_model=noise()
        ),
        (2, SIDE, SIDE),
    ),
    "DynamicMRI": Case(
        lambda: physics.DynamicMRI(mask(1, 2, 4, SIDE, SIDE), noise_model=noise()),
        (2, 4, SIDE, SIDE),
    ),
    "SequentialMRI": Case(  # adds up the frames, and takes their mean back
        lambda: physics.SequentialMRI(mask(1, 2, 4, SIDE, SIDE), noise_model=noise()),
        (2, SIDE, SIDE),
        error=NO_ADJOINT,
    ),
    "Tomography": Case(lambda: physics.Tomography(20, SIDE, normalize=True, noise_model=noise())),
    "Tomography, fan beam": Case(
        lambda: physics.Tomography(20, SIDE, fan_beam=True, normalize=True, noise_model=noise())
    ),
    "CompressedSensing": Case(lambda: physics.CompressedSensing(100, GRAY, noise_model=noise())),
    "CompressedSensing, complex": Case(lambda: complex_sensing(100, GRAY), complex=True),
    "StructuredRandom": Case(lambda: physics.StructuredRandom(GRAY, GRAY, noise_model=noise())),
    "SinglePixelCamera": Case(
        lambda: physics.SinglePixelCamera(100, (1, 16, 16), noise_model=noise()), (1, 16, 16)
    ),
    "CompressiveSpectralImaging": Case(  # adds up the bands, and takes their mean back
        lambda: physics.CompressiveSpectralImaging((5, SIDE, SIDE), noise_model=noise()),
        (5, SIDE, SIDE),
        error=NO_ADJOINT,
    ),
    "HyperSpectralUnmixing": Case(
        lambda: physics.HyperSpectralUnmixing(E=4, C=8, noise_model=noise()), (4, SIDE, SIDE)
    ),
    "Decolorize": Case(lambda: physics.Decolorize(noise_model=noise()), COLOUR),
    "Pansharpen": Case(
        lambda: physics.Pansharpen(COLOUR, noise_color=noise(0.02), noise_gray=noise()), COLOUR
    ),
    "Pansharpen, five bands": Case(
        lambda: physics.Pansharpen((5, SIDE, SIDE), noise_color=noise(0.02), noise_gray=noise()),
        (5, SIDE, SIDE),
    ),
    "Pansharpen, noise not said": Case(
        lambda: physics.Pansharpen(COLOUR), COLOUR, error="give sigma.* a list of one number"
    ),
    "StackedLinearPhysics": Case(
        lambda: physics.StackedLinearPhysics([blur(), physics.Denoising(noise(0.1))])
    ),
    "ComposedLinearPhysics": Case(lambda: every_second_row() * blur_same()),
    "LinearPhysicsMultiScaler": Case(lambda: LinearPhysicsMultiScaler(blur(), GRAY)),
    "PhysicsCropper": Case(lambda: PhysicsCropper(blur(), (2, 2)), (1, SIDE + 2, SIDE + 2)),
    "VirtualLinearPhysics": Case(
        lambda: VirtualLinearPhysics(
            physics=blur(),
            transform=Shift(),
            g_params={"x_shift": torch.tensor([2]), "y_shift": torch.tensor([3])},
        )
    ),
    "PtychographyLinearOperator": Case(
        lambda: PtychographyLinearOperator(img_size=GRAY), complex=True, sigma=LEVEL
    ),
    "UltrasoundPlaneWave": Case(
        lambda: UltrasoundPlaneWave(
            img_size=(SIDE, SIDE),
            angles=torch.tensor([-0.1, 0.0, 0.1]),
            element_positions=torch.stack([torch.linspace(-1e-3, 1e-3, 8), torch.zeros(8)], 1),
            n_samples=64,
            sampling_frequency=2e7,
            normalize=True,
        ),
        sigma=LEVEL,
    ),
    "LinearPhysics": Case(every_second_row),
}
ELSEWHERE = {
    "DecomposablePhysics": "abstract: MRI, Inpainting and others are",
    "BlurMultiScaler": "LinearPhysicsMultiScaler",
    "BlurFFTMultiScaler": "LinearPhysicsMultiScaler",
    "InpaintingMultiScaler": "LinearPhysicsMultiScaler",
    "NonCartesianMRI": "needs a package for non-uniform transforms",
    "RadioInterferometry": "needs torchkbnufft",
    "PET": "needs parallelproj",
    "TomographyWithAstra": "needs astra",
}


@pytest.mark.skipif(not version("deepinv").startswith("0.5"), reason="the table is deepinv 0.5's")
def test_the_table_knows_every_class() -> None:
    classes = {
        name
        for name, thing in vars(physics).items()
        if inspect.isclass(thing) and issubclass(thing, LinearPhysics)
    }
    assert classes <= {name.split(",")[0] for name in CASES} | set(ELSEWHERE)


def truth(case: Case) -> Tensor:
    """An image, a volume of slices that differ a little, and of complex ones another phase at every place."""
    *leading, height, width = case.shape
    x = scenes(1, height, width).float().expand(1, *leading, height, width).contiguous()
    return torch.polar(x, torch.linspace(0, 2, width).expand_as(x)) if case.complex else x


@over("case", CASES)
def test_default_reconstruction(case: Case) -> None:
    """Of the shape of the image, certified in float64 where the physics can, and as close to the measurements
    as the noise is."""
    operator, x = case.build(), truth(case)
    y = operator(x)
    if case.sigma is not None:
        y = y + case.sigma * torch.randn_like(y)
    if case.error:
        with pytest.raises(ValueError, match=case.error):
            reconstruct(y, operator, accuracy="fast", regularizer="mgradnet-m-colour")
        return
    result = reconstruct(
        y, operator, sigma=case.sigma, accuracy="fast", regularizer="mgradnet-m-colour"
    )
    assert result.converged
    assert (result.image.shape, result.image.dtype) == (x.shape, x.dtype)
    assert float(result.certificate.relative_gap) <= 0.1
    assert (result.image - x).abs().square().mean() < 0.5 * x.abs().square().mean()


ARRANGED = {
    "complex": lambda: (
        complex_sensing(20, (2, 3, 4)),
        torch.randn(2, 2, 3, 4, dtype=torch.cfloat),
        LEVEL * 2**-0.5,
    ),
    "complex of an identity": lambda: (
        physics.Denoising(noise()),
        torch.randn(2, 1, 3, 4, dtype=torch.cfloat),
        LEVEL * 2**-0.5,
    ),
    "stacked": lambda: (
        physics.Pansharpen((2, 8, 8), noise_color=noise(), noise_gray=noise()),
        torch.randn(2, 2, 8, 8),
        LEVEL,
    ),
    "volume": lambda: (
        physics.DynamicMRI(mask(1, 2, 4, 3, 5), noise_model=noise()),
        torch.randn(2, 2, 4, 3, 5),
        LEVEL,
    ),
}


@over("build", ARRANGED)
def test_planes_are_isometric_and_so_are_measurements(build) -> None:
    operator, x, _ = build()
    y = operator.A(x)
    plan = Arrangement(operator, y)
    planes, real = plan.planes(x), plan.measurements(y)
    assert planes.ndim == 4
    torch.testing.assert_close(plan.image(planes), x)
    torch.testing.assert_close(planes.norm(), x.abs().square().sum().sqrt())
    torch.testing.assert_close(plan.A(planes), real)
    u, w = torch.randn_like(planes), torch.randn_like(real)
    torch.testing.assert_close(
        (plan.A(u) * w).sum(), (u * plan.A_adjoint(w)).sum(), rtol=1e-4, atol=1e-4
    )


@over("build", {name: ARRANGED[name] for name in ("complex of an identity", "stacked")})
def test_bounds_of_parts_are_bounds_of_the_whole(build) -> None:
    operator, x, _ = build()
    plan = Arrangement(operator, operator.A(x)).double()
    one = plan.planes(x)[:1].double()
    values = torch.linalg.svdvals(matrix(plan.A, one.shape[1:])).square()
    assert values.max() <= torch.as_tensor(plan.bounds.largest).min() * (1 + 1e-9)
    assert values.min() >= torch.as_tensor(plan.bounds.smallest).max() * (1 - 1e-9)


@over("build", {name: ARRANGED[name] for name in ("complex of an identity", "stacked")})
def test_noise_is_that_of_the_real_measurements(build) -> None:
    operator, x, level = build()
    y = operator.A(x)
    plan = Arrangement(operator, y)
    levels = plan.sigma(None, y)
    assert levels.shape == plan.measurements(y).shape
    torch.testing.assert_close(levels, torch.full_like(levels, level))
    seen = plan.measurements(operator(x)) - plan.measurements(y)
    assert abs(float(seen.square().mean().sqrt()) / level - 1) < 0.4


def test_parts_of_a_stack_have_their_noise() -> None:
    operator = physics.StackedLinearPhysics([physics.Denoising(), physics.Denoising()])
    x = scenes(2, 10, 9).float()
    y = operator.A(x)
    exact = reconstruct(y, operator, sigma=[0.001, 0.5], regularizer="mgradnet-m")
    assert (exact.image - x).abs().max() < 0.02
    with pytest.raises(ValueError, match="one for each of the 2 parts"):
        reconstruct(y, operator, sigma=[0.1, 0.1, 0.1])
    with pytest.raises(ValueError, match="2 parts, and there are 1"):
        reconstruct(y[:1], operator, sigma=0.1)


def test_three_slices_are_not_taken_for_colours() -> None:
    operator = physics.Denoising(noise())
    with pytest.raises(ValueError, match="three slices"):
        reconstruct(torch.rand(1, 1, 3, 8, 8), operator)


def test_phase_is_kept() -> None:
    """Real and imaginary part as planes, against the real part alone, which is right without a phase only."""
    size = 48
    image = scenes(1, size, size).float()
    phase = torch.linspace(0, 3, size).expand_as(image)
    lines = mask(1, size).expand(size, size).clone()
    lines[:, size // 2 - 4 : size // 2 + 4] = 1
    operator = physics.MRI(lines, img_size=(size, size), noise_model=noise(0.02))
    for angle in (0 * phase, phase):
        x = torch.cat([image * angle.cos(), image * angle.sin()], 1)
        result = reconstruct(operator(x), operator)
        assert -10 * torch.log10((result.image - x).square().sum(1).mean()) > 28


def test_bands_are_reconstructed_as_they_are_alone() -> None:
    """Of an operator that treats them alike, with a gray model and with the gray part of one for colour."""
    x = scenes(1, 14, 12, 4).float()
    y = x + 0.1 * torch.randn_like(x)
    for name in ("mgradnet-m", "mgradnet-m-colour-adaptive"):
        settings = {"sigma": 0.1, "regularizer": name, "accuracy": "exact"}
        together = reconstruct(y, physics.Denoising(), **settings)
        alone = reconstruct(y.transpose(0, 1), physics.Denoising(), **settings)
        torch.testing.assert_close(together.image, alone.image.transpose(0, 1), rtol=0, atol=3e-3)


def test_the_reconstructor_takes_them_too() -> None:
    operator = physics.Pansharpen((2, 12, 12), noise_color=noise(0.02), noise_gray=noise())
    x = scenes(1, 12, 12, 2).float()
    y = operator(x)
    model = ConvexReconstructor("mgradnet-m", accuracy="fast")
    result = reconstruct(y, operator, regularizer="mgradnet-m", accuracy="fast")
    with torch.no_grad():
        image, metrics = model(y, operator, x_gt=x, compute_metrics=True)
    torch.testing.assert_close(image, result.image)
    assert metrics["psnr"][0][-1] > metrics["psnr"][0][0]
    y[0].requires_grad_()
    image = model(y, operator)
    (gradient,) = torch.autograd.grad(image.sum(), y[0])
    assert gradient.abs().max() > 0
    assert gradient.isfinite().all()


def test_the_norm_of_coils() -> None:
    operator = physics.MultiCoilMRI(mask(5, 6), coil_maps=coils()[:, :5, :6], img_size=(2, 5, 6))
    x = torch.zeros(1, 2, 5, 6)
    largest = float(operator_bounds(operator, x).largest)
    values = torch.linalg.svdvals(matrix(operator.double().A, (2, 5, 6))).square()
    assert float(values.max()) <= largest
