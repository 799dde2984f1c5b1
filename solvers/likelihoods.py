"""Data terms of noise that is not Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor

from .data_terms import DataTerm
from .operators import NOTHING_PROVEN, LinearOperator, OperatorBounds


class PoissonLikelihood(DataTerm):
    """`sum_i z - y + y log(y / z)` with `z = A x / gain + background`: photon counts `y`.

    The negative log-likelihood of Poisson counts with mean `z`, up to a constant. Below the background
    `b`, where no `x >= 0` leads if `A` has no negative entries, it is continued by a parabola of the same
    value and slope with the second derivative `max(y, b) / b^2`: its Taylor polynomial where `y >= b`, and
    elsewhere the parabola whose minimum is at `z = y` (where the likelihood has its own), so that an
    empty pixel cannot run off. Then the Lipschitz constant `max(y, b) / b^2 |A|^2 / gain^2` holds
    everywhere.

    :param gain: of the image per count, positive.
    :param background: mean counts without an image, positive.
    :raises ValueError: negative counts, or a gain or background that is not positive.
    """

    def __init__(
        self,
        operator: LinearOperator,
        y: Tensor,
        bounds: OperatorBounds = NOTHING_PROVEN,
        *,
        gain: float = 1.0,
        background: float,
    ) -> None:
        super().__init__(operator, y, bounds)
        if not gain > 0 or not background > 0:
            raise ValueError(
                f"the Poisson likelihood has a bounded second derivative for a positive background "
                f"only; got gain={gain:g}, background={background:g}"
            )
        if bool((y < 0).any()):
            raise ValueError(f"counts cannot be negative, got {y.min().item():g}")
        self.gain, self.background = gain, background

    def noise_level(self) -> Tensor:
        """In the unit of `A x`: the root of the mean count times the gain, where `A` can make any."""
        image = torch.ones_like(self.operator.A_adjoint(self.y))
        seen = (self.operator.A(image) > 0).double()
        total = (seen * self.y).flatten(1).sum(1)
        mean = total / seen.flatten(1).sum(1).clamp_min(1)
        # where nothing was counted at all one count is as good a guess as any
        return self.gain * torch.where(total > 0, mean, mean + 1).sqrt()

    @torch.no_grad()
    def noise_levels(self, x: Tensor) -> Tensor:
        mean = self.operator.A(x) / self.gain + self.background
        return self.gain * mean.clamp_min(self.background).sqrt()

    def scale(self, level: Tensor) -> Tensor:
        return level**-2

    def distance(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean = z / self.gain + self.background
        inside = mean.clamp_min(self.background)
        below = mean - inside
        # the terms are of the size of the counts, their sum is about one half: in float64
        counts, exact = self.y.double(), inside.double()
        value = exact - counts + torch.xlogy(counts, counts / exact)
        slope = (inside - self.y) / inside
        bend = self.y.clamp_min(self.background) / self.background**2
        value = value + below * (slope + bend * below / 2)
        return value, (slope + bend * below) / self.gain

    def curvature_bound(self) -> Tensor:
        largest = self.y.flatten(1).amax(1).double().clamp_min(self.background)
        return largest / (self.background * self.gain) ** 2

    def weight(self, z: Tensor) -> Tensor:
        mean = z / self.gain + self.background
        counts = torch.where(mean < self.background, self.y.clamp_min(self.background), self.y)
        return counts / (mean.clamp_min(self.background) * self.gain) ** 2


class SmoothedL1(DataTerm):
    """`sum_i h(A x - y)` with Huber's `h(r) = r^2 / (2 delta)` for `|r| <= delta`, else `|r| - delta / 2`.

    `|A x - y|_1` exceeds it by at most `m delta / 2`, `m` the number of measurements: what a
    certificate says of the smoothed problem holds for the exact one up to that.

    :param delta: positive.
    :raises ValueError: one that is not.
    """

    def __init__(
        self,
        operator: LinearOperator,
        y: Tensor,
        bounds: OperatorBounds = NOTHING_PROVEN,
        *,
        delta: float,
    ) -> None:
        super().__init__(operator, y, bounds)
        if not delta > 0:
            raise ValueError(f"delta must be positive, got {delta:g}")
        self.delta = delta

    def distance(self, z: Tensor) -> tuple[Tensor, Tensor]:
        residual = z - self.y
        derivative = (residual / self.delta).clamp(-1, 1)
        return derivative * (residual - self.delta / 2 * derivative), derivative

    def curvature_bound(self) -> Tensor:
        return torch.tensor(1 / self.delta, dtype=torch.float64, device=self.y.device)

    def weight(self, z: Tensor) -> Tensor:
        return 1 / (z - self.y).abs().clamp_min(self.delta)
