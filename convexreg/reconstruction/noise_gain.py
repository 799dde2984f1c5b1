"""How strong the noise is where the regularizer meets it, and the weight that this asks for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convexreg.reconstruction.start import is_identity
from convexreg.solvers.batch import inner
from convexreg.solvers.operators import LinearOperator

_PROBES = 8
_SMALLEST, _LARGEST = 2.0**-6, 4.0
_EXPONENTS = {False: (0.51, -0.74), True: (0.43, -1.23)}
"""Of the gain and the steepness, for a convex and an adaptive model: weighted least squares to the best
weights of 14 operators (blurs, masks, subsampling, MRI, tomography; none of them in the benchmarks) on crops
of three photographs of Set12. Against those weights it loses 0.04 dB there on average, 0.27 at worst."""


@dataclass(frozen=True)
class NoiseGain:
    """Standard deviation of `A^T n` for white noise `n` of standard deviation one, per image `(B,)`.

    :ivar white: root of the mean eigenvalue of `A^T A`; one for denoising.
    :ivar pink: the same seen through a filter of power `1 / |frequency|`, relative to white noise through it:
        for images, whose power is at low frequencies, what the noise at those is. Larger than `white` where
        the operator keeps low frequencies better than high ones.
    """

    white: Tensor
    pink: Tensor

    def weight(self, *, adaptive: bool) -> Tensor:
        """The weight of the regularizer, `white^a (pink / white)^b`, `(B,)` in float64: one for denoising.

        For an operator that is a multiple `c` of the identity the weight must be `c^2 R(x; sigma / c) /
        R(x; sigma)`, about the root of `c` for shipped models, which is what `a` comes out as. The steeper
        the spectrum of `A^T A`, the more of the regularizer's bias is amplified where little of the image is
        transmitted, and the less weight is best.
        """
        gain, steepness = _EXPONENTS[adaptive]
        weight = self.white**gain * (self.pink / self.white) ** steepness
        return weight.nan_to_num(1.0).clamp(_SMALLEST, _LARGEST)

    def text(self, image: int) -> str:
        """In words."""
        return (
            f"since noise passes the adjoint {float(self.white[image]):.3g} as strong, "
            f"at low frequencies {float(self.pink[image]):.3g}"
        )


@torch.no_grad()
def noise_gain(
    operator: LinearOperator, x: Tensor, y: Tensor, *, identity: bool | None = None
) -> NoiseGain:
    """That of an operator, by a few vectors of random signs (Hutchinson 1990); exactly one for the identity.

    :param x: images of the shape that the operator takes, `(B, ..., H, W)`.
    :param y: measurements `(B, ...)`.
    :param identity: whether the operator is the identity, where that is known.
    """
    one = torch.ones(len(x), dtype=torch.float64, device=x.device)
    if is_identity(operator, x) if identity is None else identity:
        return NoiseGain(one, one)
    generator = torch.Generator().manual_seed(0)
    white = pink = torch.zeros_like(one)
    image = x.ndim > 2  # else there are no frequencies
    power = _pink(x) if image else x.new_ones(())
    for _ in range(_PROBES):
        signs = 2.0 * torch.randint(2, y.shape[1:], generator=generator, device="cpu") - 1
        seen = operator.A_adjoint(signs.to(y).expand_as(y).contiguous())
        white = white + inner(seen, seen) / seen[0].numel()
        filtered = seen
        if image:
            filtered = torch.fft.irfft2(torch.fft.rfft2(seen) * power, s=x.shape[-2:])
        pink = pink + inner(seen, filtered) / seen[0].numel()
    return NoiseGain((white / _PROBES).sqrt(), (pink / _PROBES).clamp_min(0).sqrt())


def _pink(x: Tensor) -> Tensor:
    """Power `1 / |frequency|` without the mean image, of mean one; half of its spectrum `(H, W // 2 + 1)`."""
    height, width = x.shape[-2:]
    rows = torch.fft.fftfreq(height, dtype=torch.float64, device=x.device)
    columns = torch.fft.fftfreq(width, dtype=torch.float64, device=x.device)
    squared = (torch.pi * rows).sin().square()[:, None] + (torch.pi * columns).sin().square()
    power = torch.where(squared > 0, squared.rsqrt(), 0.0)
    power = power / power.mean() if height * width > 1 else torch.ones_like(power)
    return power[:, : width // 2 + 1].to(x.dtype)
