"""Forward operators of deepinv, and what is claimed of them: a new one is a new row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from deepinv import physics
from deepinv.physics import LinearPhysics
from torch import Tensor


def kernel(*size: int, positive: bool = False) -> Tensor:
    taps = torch.rand(1, 1, *size) if positive else torch.randn(1, 1, *size)
    return taps / taps.abs().sum()


def in_dtype(operator: LinearPhysics, dtype: torch.dtype) -> LinearPhysics:
    """Not `.to(dtype)`, which makes the complex buffers of BlurFFT real."""
    return operator.double() if dtype == torch.float64 else operator.float()


@dataclass(frozen=True)
class PhysicsCase:
    """A forward operator on images of `shape`.

    :ivar exact: whether the bound is the norm.
    :ivar smallest: whether the lower bound on the spectrum is the smallest eigenvalue.
    """

    build: Callable[[], LinearPhysics]
    shape: tuple[int, int, int] = (1, 7, 8)
    exact: bool = False
    smallest: bool = False


GRAY, COLOUR = (1, 7, 8), (3, 6, 6)
PHYSICS: dict[str, PhysicsCase] = {
    "denoising": PhysicsCase(physics.Denoising, GRAY, True, True),
    "inpainting": PhysicsCase(lambda: physics.Inpainting(GRAY, mask=0.6), GRAY, True, True),
    "inpainting-boolean": PhysicsCase(
        lambda: physics.Inpainting(GRAY, mask=torch.rand(GRAY) > 0.5), GRAY, True, True
    ),
    "inpainting-weights": PhysicsCase(
        lambda: physics.Inpainting(COLOUR, mask=torch.rand(COLOUR) - 0.3), COLOUR, True, True
    ),
    "demosaicing": PhysicsCase(lambda: physics.Demosaicing(COLOUR), COLOUR, True, True),
    "mri": PhysicsCase(
        lambda: physics.MRI((torch.rand(6, 7) > 0.4).float()), (2, 6, 7), True, True
    ),
    "mri-weights": PhysicsCase(lambda: physics.MRI(torch.rand(6, 7)), (2, 6, 7), True, True),
} | {
    f"fft-{height}x{width}-{name}": PhysicsCase(
        lambda h=height, w=width, c=channels, k=size, p=positive: physics.BlurFFT(
            (c, h, w), filter=kernel(*k, positive=p)
        ),
        (channels, height, width),
        True,
    )
    for height, width in ((6, 7), (7, 8), (8, 8))
    for name, channels, size, positive in (
        ("odd", 1, (3, 3), False),
        ("even", 1, (2, 4), False),
        ("colour", 3, (3, 3), True),
    )
}
# Kernels with a side of 1 or 2 are left out: deepinv 0.5 fails on them, or its adjoint is not one.
for padding in ("valid", "circular", "replicate", "reflect"):
    PHYSICS |= {
        f"blur-{padding}-{name}": PhysicsCase(
            lambda p=padding, k=size, q=positive: physics.Blur(kernel(*k, positive=q), padding=p),
            shape,
            padding == "circular" and positive,
        )
        for name, shape, size, positive in (
            ("signed", GRAY, (3, 3), False),
            ("positive", GRAY, (3, 3), True),
            ("long", GRAY, (5, 3), False),
            ("even", GRAY, (4, 4), True),
            ("colour", COLOUR, (3, 3), False),
        )
    } | {
        f"downsampling-{padding}-{factor}-{name}": PhysicsCase(
            lambda p=padding, f=factor, n=filter_, s=shape: physics.Downsampling(
                img_size=s, filter=n if isinstance(n, str | None) else kernel(3, 3), factor=f, padding=p
            ),
            shape,
        )
        for factor in (2, 3)
        for name, filter_, shape in (
            ("none", None, GRAY),
            ("bilinear", "bilinear", (1, 12, 13)),
            ("signed", 3, GRAY),
            ("colour", 3, COLOUR),
        )
    }  # fmt: skip
