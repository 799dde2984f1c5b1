"""Reconstruction problems: a forward operator and a noise level.

A new problem is a row: `PROBLEMS["mine"] = InverseProblem("mine", "physics", "what it is", sigma, build)`,
where `build(height, width, dtype, device)` returns a deepinv physics on gray images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.registry import selected
from convexreg.solvers import data_term
from convexreg.solvers.data_terms import DataTerm


@dataclass(frozen=True)
class InverseProblem:
    """A row of the table: `y = A x + sigma n` with the noise of image number i seeded by i.

    :ivar build: a deepinv physics.
    :ivar masked: whether the physics has a `mask`, outside of which there are no measurements, and no noise.
    """

    name: str
    family: str
    description: str
    sigma: float
    build: Callable[[int, int, torch.dtype, str], Any]
    masked: bool = False

    def measure(
        self, clean: Tensor, number: int, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> Measurement:
        """Noisy measurements of `clean`, `(1, H, W)`; the noise is drawn in float32, on the CPU."""
        x = clean.unsqueeze(0).to(device, dtype)
        physics = self.build(x.shape[-2], x.shape[-1], dtype, device)
        exact = physics.A(x)
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(exact.shape, generator=generator).to(exact)
        if self.masked:
            noise = noise * physics.mask
        return Measurement(self, x, exact + self.sigma * noise, physics)


@dataclass(frozen=True)
class Measurement:
    """What a method is given: `y`, the operator and the noise level (and `clean`, to be judged by)."""

    problem: InverseProblem
    clean: Tensor
    y: Tensor
    physics: Any

    @property
    def sigma(self) -> float:
        """Noise standard deviation on the scale of images in [0, 1]."""
        return self.problem.sigma

    @property
    def denoising(self) -> bool:
        """Whether the operator is the identity."""
        return self.problem.family == "denoising"

    @property
    def naive(self) -> Tensor:
        """The measurements in the shape of the image, to compare with or to start from.

        The measurements themselves where they are an image; with borders lost, extended by
        repetition; otherwise `A^T y`.
        """
        lost = self.clean.shape[-1] - self.y.shape[-1]
        if self.y.shape == self.clean.shape:
            return self.y
        if self.problem.family == "deblurring":
            return torch.nn.functional.pad(self.y, (lost // 2,) * 4, mode="replicate")
        return self.physics.A_adjoint(self.y)

    def data_term(self) -> DataTerm:
        """`|A x - y|^2 / 2`."""
        return data_term(self.physics, self.y)

    def psnr(self, image: Tensor) -> float:
        """PSNR in dB for peak 1, without clipping."""
        from deepinv.loss.metric import PSNR

        return float(PSNR()(image, self.clean))


def _denoising(height: int, width: int, dtype: torch.dtype, device: str) -> Any:
    import deepinv

    return deepinv.physics.Denoising(device=device)


def gaussian_kernel(std: float = 1.6, size: int = 25) -> Tensor:
    """Normalised Gaussian, `(1, 1, size, size)` in float64."""
    grid = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.exp(-(grid**2) / (2 * std**2))
    line = line / line.sum()
    return torch.outer(line, line)[None, None]


def uniform_kernel(size: int = 9) -> Tensor:
    """Mean over a square, `(1, 1, size, size)` in float64."""
    return torch.full((1, 1, size, size), 1 / size**2, dtype=torch.float64)


def motion_kernel(size: int = 25, seed: int = 1) -> Tensor:
    """A camera-shake kernel from deepinv's generator, `(1, 1, size, size)` in float64."""
    from deepinv.physics.generator import MotionBlurGenerator

    generator = torch.Generator().manual_seed(seed)
    shake = MotionBlurGenerator((size, size), rng=generator, l=0.3, sigma=0.5)
    kernel = shake.step(1)["filter"].double()
    return kernel / kernel.sum()


def _blur(kernel: Callable[[], Tensor], boundary: str) -> Callable[..., Any]:
    def build(height: int, width: int, dtype: torch.dtype, device: str) -> Any:
        import deepinv

        weights = kernel().to(device, dtype)
        size = min(height, width)
        if weights.shape[-1] > size:  # tiny images: the middle of the kernel
            cut = (weights.shape[-1] - size) // 2 + 1
            weights = weights[..., cut:-cut, cut:-cut]
            weights = weights / weights.sum()
        if boundary == "circular":
            return deepinv.physics.BlurFFT((1, height, width), filter=weights, device=device)
        return deepinv.physics.Blur(
            filter=weights, padding=boundary, use_fft=True, device=torch.device(device)
        )

    return build


def _inpainting(height: int, width: int, dtype: torch.dtype, device: str) -> Any:
    import deepinv

    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(1, 1, height, width, generator=generator) < 0.5).to(device, dtype)
    size: Any = (1, height, width)
    return deepinv.physics.Inpainting(size, mask=mask, device=device)


def _super_resolution(height: int, width: int, dtype: torch.dtype, device: str) -> Any:
    import deepinv

    weights = gaussian_kernel(1.0, 9).to(device, dtype)
    return deepinv.physics.Downsampling(
        (1, height, width), filter=weights, factor=2, padding="circular", device=device
    )


def _mri(height: int, width: int, dtype: torch.dtype, device: str) -> Any:
    """Fourfold Cartesian undersampling."""
    from deepinv.physics.generator import GaussianMaskGenerator

    from benchmarks.problems.physics import RealMRI

    lines = GaussianMaskGenerator(
        (2, height, width), acceleration=4, rng=torch.Generator().manual_seed(0)
    )
    return RealMRI(lines.step(1)["mask"].to(device, dtype))


def _tomography(
    height: int, width: int, dtype: torch.dtype, device: str, *, degrees: float = 180.0
) -> Any:
    """Sixty parallel-beam projections over so many degrees."""
    from benchmarks.problems.physics import ScaledTomography

    angles = torch.linspace(0, degrees, 61, dtype=dtype, device=device)[:-1]
    return ScaledTomography(angles, height, width)


_KERNELS = {
    "gaussian": ("Gaussian blur, std 1.6", gaussian_kernel),
    "uniform": ("uniform 9 x 9 blur", uniform_kernel),
    "motion": ("motion blur 25 x 25", motion_kernel),
}

_ROWS = [
    *(
        InverseProblem(f"noise-{level}", "denoising", f"noise {level}/255", level / 255, _denoising)
        for level in (5, 15, 25, 50)
    ),
    *(
        InverseProblem(
            f"{key}-{noise}-{boundary}",
            "deblurring",
            f"{text}, noise {noise}, {boundary} boundary",
            noise,
            _blur(kernel, boundary),
        )
        for boundary in ("circular", "valid")
        for key, (text, kernel) in _KERNELS.items()
        for noise in (0.01, 0.03)
    ),
    InverseProblem(
        "inpainting", "physics", "half of the pixels, noise 0.02", 0.02, _inpainting, True
    ),
    InverseProblem(
        "super-resolution",
        "physics",
        "Gaussian blur, factor 2, noise 0.01",
        0.01,
        _super_resolution,
    ),
    InverseProblem("mri", "physics", "single coil, 4-fold Cartesian, noise 0.02", 0.02, _mri, True),
    InverseProblem(
        "tomography", "physics", "60 parallel projections, noise 0.01", 0.01, _tomography
    ),
    InverseProblem(
        "limited-angle",
        "physics",
        "60 parallel projections over 120 degrees, noise 0.01",
        0.01,
        partial(_tomography, degrees=120.0),
    ),
]

PROBLEMS: dict[str, InverseProblem] = {row.name: row for row in _ROWS}


def named_problem(name: str) -> InverseProblem:
    """The problem of that name, of any family.

    :raises ValueError: there is none.
    """
    return selected(PROBLEMS, [name], "problem")[name]


def problems(family: str, names: tuple[str, ...] = ()) -> list[InverseProblem]:
    """The problems of a family, or those of them that are named.

    :raises ValueError: one that is not a problem of the family.
    """
    table = {name: row for name, row in PROBLEMS.items() if row.family == family}
    return list(selected(table, names, "problem", f" of {family}").values())
