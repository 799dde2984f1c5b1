"""Reconstruction problems: a forward operator and a noise level.

A new problem is a row: `PROBLEMS["mine"] = Problem("mine", "physics", "what it is", sigma, build)`,
where `build(height, width, dtype, device)` returns a `Forward`: a deepinv physics on gray images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.registry import selected
from convexreg.reconstruction.start import local_wiener
from convexreg.solvers import LeastSquares, Objective, OperatorBounds, Proximity, operator_bounds


@dataclass(frozen=True)
class Forward:
    """A linear operator with proven bounds on its spectrum.

    :ivar physics: anything with `A` and `A_adjoint`; deepinv's physics.
    :ivar sampled: where there are measurements at all, broadcastable to `y`; noise falls only there.
    """

    physics: Any
    bounds: OperatorBounds
    sampled: Tensor | None = None


@dataclass(frozen=True)
class Problem:
    """A row of the table: `y = A x + sigma n` with the noise of image number i seeded by i."""

    name: str
    family: str
    description: str
    sigma: float
    build: Callable[[int, int, torch.dtype, str], Forward]

    def measure(
        self, clean: Tensor, number: int, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> Measurement:
        """Noisy measurements of `clean`, `(1, H, W)`; the noise is drawn in float32, on the CPU."""
        x = clean.unsqueeze(0).to(device, dtype)
        forward = self.build(x.shape[-2], x.shape[-1], dtype, device)
        exact = forward.physics.A(x)
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(exact.shape, generator=generator).to(exact)
        if forward.sampled is not None:
            noise = noise * forward.sampled
        return Measurement(self, x, exact + self.sigma * noise, forward)


@dataclass(frozen=True)
class Measurement:
    """What a method is given: `y`, the operator and the noise level (and `clean`, to be judged by)."""

    problem: Problem
    clean: Tensor
    y: Tensor
    forward: Forward

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
        """The measurements in the shape of the image, to compare with.

        The measurements themselves where they are an image; with borders lost, extended by
        repetition; otherwise `A^T y`.
        """
        lost = self.clean.shape[-1] - self.y.shape[-1]
        if self.y.shape == self.clean.shape:
            return self.y
        if self.problem.family == "deblurring":
            return torch.nn.functional.pad(self.y, (lost // 2,) * 4, mode="replicate")
        return self.forward.physics.A_adjoint(self.y)

    @property
    def start(self) -> Tensor:
        """Where iterative methods start: for denoising a local Wiener filter, else `naive`."""
        return local_wiener(self.y, self.sigma) if self.denoising else self.naive

    def data_term(self) -> Objective:
        """`|A x - y|^2 / 2`."""
        if self.denoising:
            return Proximity(self.y)
        return LeastSquares(self.forward.physics, self.y, self.forward.bounds)


def _denoising(height: int, width: int, dtype: torch.dtype, device: str) -> Forward:
    import deepinv

    physics = deepinv.physics.Denoising(device=device)
    return Forward(physics, OperatorBounds(1.0, 1.0, "A is the identity"))


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


def _blur(kernel: Callable[[], Tensor], boundary: str) -> Callable[..., Forward]:
    def build(height: int, width: int, dtype: torch.dtype, device: str) -> Forward:
        import deepinv

        weights = kernel().to(device, dtype)
        size = min(height, width)
        if weights.shape[-1] > size:  # tiny images: the middle of the kernel
            cut = (weights.shape[-1] - size) // 2 + 1
            weights = weights[..., cut:-cut, cut:-cut]
            weights = weights / weights.sum()
        if boundary == "valid":
            physics = deepinv.physics.Blur(
                filter=weights, padding="valid", use_fft=True, device=torch.device(device)
            )
        else:
            physics = deepinv.physics.BlurFFT((1, height, width), filter=weights, device=device)
        like = torch.empty(1, 1, height, width, dtype=dtype, device=device)
        return Forward(physics, operator_bounds(physics, like))

    return build


def _inpainting(height: int, width: int, dtype: torch.dtype, device: str) -> Forward:
    import deepinv

    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(1, 1, height, width, generator=generator) < 0.5).to(device, dtype)
    size: Any = (1, height, width)
    physics = deepinv.physics.Inpainting(size, mask=mask, device=device)
    return Forward(physics, operator_bounds(physics, mask), sampled=mask)


def _super_resolution(height: int, width: int, dtype: torch.dtype, device: str) -> Forward:
    import deepinv

    weights = gaussian_kernel(1.0, 9).to(device, dtype)
    physics = deepinv.physics.Downsampling(
        (1, height, width), filter=weights, factor=2, padding="circular", device=device
    )
    like = torch.empty(1, 1, height, width, dtype=dtype, device=device)
    return Forward(physics, operator_bounds(physics, like))


def _mri(height: int, width: int, dtype: torch.dtype, device: str) -> Forward:
    """Fourfold Cartesian undersampling of a real image; real images are embedded isometrically."""
    import deepinv
    from deepinv.physics.generator import GaussianMaskGenerator

    lines = GaussianMaskGenerator(
        (2, height, width), acceleration=4, rng=torch.Generator().manual_seed(0)
    )
    mask = lines.step(1)["mask"].to(device, dtype)
    mri = deepinv.physics.MRI(mask=mask, img_size=(height, width), device=device)
    physics = deepinv.physics.LinearPhysics(
        A=lambda x, **_: mri.A(torch.cat([x, torch.zeros_like(x)], 1)),
        A_adjoint=lambda y, **_: mri.A_adjoint(y)[:, :1],
        device=device,
    )
    bounds = operator_bounds(mri, torch.empty(1, 2, height, width, dtype=dtype, device=device))
    # an eigenvector of the complex problem need not be real: only the upper bound carries over
    return Forward(physics, OperatorBounds(bounds.largest, 0.0, bounds.proof), sampled=mask)


def _tomography(
    height: int, width: int, dtype: torch.dtype, device: str, *, degrees: float = 180.0
) -> Forward:
    """Sixty parallel-beam projections over so many degrees, scaled to a norm of at most one.

    The entries are bilinear weights, hence nonnegative, and Schur's test `|A|^2 <= |A|_1 |A|_inf`
    needs one application to ones of the operator and of its adjoint.
    """
    import deepinv

    angles: Any = torch.linspace(0, degrees, 61, dtype=dtype, device=device)[:-1]
    radon = deepinv.physics.Tomography(
        angles=angles, img_width=width, normalize=False, device=device, dtype=dtype
    )
    rows = radon.A(torch.ones(1, 1, height, width, dtype=dtype, device=device))
    columns = radon.A_adjoint(torch.ones_like(rows))
    scale = (rows.max().double() * columns.max().double()).rsqrt().item()
    physics = deepinv.physics.LinearPhysics(
        A=lambda x, **_: scale * radon.A(x),
        A_adjoint=lambda y, **_: scale * radon.A_adjoint(y),
        device=device,
    )
    return Forward(physics, OperatorBounds(1 + 1e-4, 0.0, "Schur's test, |A|_1 |A|_inf"))


_KERNELS = {
    "gaussian": ("Gaussian blur, std 1.6", gaussian_kernel),
    "uniform": ("uniform 9 x 9 blur", uniform_kernel),
    "motion": ("motion blur 25 x 25", motion_kernel),
}

_ROWS = [
    *(
        Problem(f"noise-{level}", "denoising", f"noise {level}/255", level / 255, _denoising)
        for level in (5, 15, 25, 50)
    ),
    *(
        Problem(
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
    Problem("inpainting", "physics", "half of the pixels, noise 0.02", 0.02, _inpainting),
    Problem(
        "super-resolution",
        "physics",
        "Gaussian blur, factor 2, noise 0.01",
        0.01,
        _super_resolution,
    ),
    Problem("mri", "physics", "single coil, 4-fold Cartesian, noise 0.02", 0.02, _mri),
    Problem("tomography", "physics", "60 parallel projections, noise 0.01", 0.01, _tomography),
    Problem(
        "limited-angle",
        "physics",
        "60 parallel projections over 120 degrees, noise 0.01",
        0.01,
        partial(_tomography, degrees=120.0),
    ),
]

PROBLEMS: dict[str, Problem] = {row.name: row for row in _ROWS}


def named_problem(name: str) -> Problem:
    """The problem of that name, of any family.

    :raises ValueError: there is none.
    """
    return selected(PROBLEMS, [name], "problem")[name]


def problems(family: str, names: tuple[str, ...] = ()) -> list[Problem]:
    """The problems of a family, or those of them that are named.

    :raises ValueError: one that is not a problem of the family.
    """
    table = {name: row for name, row in PROBLEMS.items() if row.family == family}
    return list(selected(table, names, "problem", f" of {family}").values())
