"""Learned linear splines, the activations of CRR-NN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from convexreg.networks.potentials.base import ElementwisePotential, per_channel


class LinearSpline(ElementwisePotential):
    """`psi_c'` a linear spline with uniform knots on `[-limit, limit]`, constant outside, zero at 0.

    The activation of CRR-NN (Goujon et al. 2023, section IV). With `monotone` the increments
    between knots are `softplus` of the parameters, so that `psi_c` is convex by construction;
    without it the network is the authors' (nonconvex) ridge regularizer.

    :param knots: odd, at least 3, so that there is a knot at zero.
    """

    def __init__(
        self, channels: int, knots: int = 21, limit: float = 0.1, *, monotone: bool = True
    ) -> None:
        super().__init__()
        if knots < 3 or knots % 2 == 0:
            raise ValueError(f"a spline needs an odd number of at least 3 knots, got {knots}")
        self.convex = self.nonnegative = monotone
        self.limit, self.knots = limit, knots
        step = self.step
        centres = torch.linspace(
            -limit + step / 2, limit - step / 2, knots - 1, dtype=torch.float32
        )
        # initially 2 limit tanh'(2 u / limit): saturating towards the ends of the knots
        increments = step * torch.cosh(2 * centres / limit) ** -2
        raw = increments.expm1().log() if monotone else increments
        self.raw = nn.Parameter(raw.repeat(channels, 1))

    @property
    def step(self) -> float:
        """Distance between knots."""
        return 2 * self.limit / (self.knots - 1)

    @property
    def increments(self) -> Tensor:
        """Rise of the activation between neighbouring knots, `(C, knots - 1)`."""
        return functional.softplus(self.raw) if self.convex else self.raw

    def second_differences(self) -> Tensor:
        """Change of slope at every knot times the knot distance, `(C, knots)`: the TV2 penalty's terms."""
        return functional.pad(self.increments, (1, 1)).diff(dim=1)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Activation and potential at the knots, `(C, knots)`, both zero at the middle knot."""
        middle = self.knots // 2
        values = functional.pad(self.increments.cumsum(1), (1, 0))
        values = values - values[:, middle : middle + 1]
        areas = self.step * (values[:, 1:] + values[:, :-1]) / 2
        potentials = functional.pad(areas.cumsum(1), (1, 0))
        return values, potentials - potentials[:, middle : middle + 1]

    def _locate(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Flat index of the knot to the left, distance from it, distance beyond the last knot."""
        inside = u.clamp(-self.limit, self.limit)
        cell = ((inside + self.limit) / self.step).floor().clamp(0, self.knots - 2)
        offset = inside + self.limit - cell * self.step
        index = cell.nan_to_num(0.0).long()  # NaN stays NaN by the distance from the knot
        if self.raw.shape[0] > 1:
            channel = torch.arange(self.raw.shape[0], dtype=torch.int64, device=u.device)
            index = index + per_channel(channel * self.knots, u)
        return index, offset, u - inside

    def value_and_grad(self, u: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        density, activation = self._evaluate(u)
        if weight is not None:
            density, activation = weight * density, weight * activation
        return density.sum(1), activation

    def terms_and_grad(self, u: Tensor) -> tuple[Tensor, Tensor]:
        density, activation = self._evaluate(u.squeeze(1))
        return density, activation.unsqueeze(1)

    def _evaluate(self, u: Tensor) -> tuple[Tensor, Tensor]:
        values, potentials = self._tables()
        index, offset, beyond = self._locate(u)
        left, rise = _gather(values, index), _gather(_rise(values), index)
        activation = torch.addcmul(left, rise, offset, value=1 / self.step)
        inside = torch.addcmul(_gather(potentials, index), offset, left + activation, value=0.5)
        return torch.addcmul(inside, activation, beyond), activation

    def density(self, u: Tensor) -> Tensor:
        return self._evaluate(u)[0]

    def activation(self, u: Tensor) -> Tensor:
        values, _ = self._tables()
        index, offset, _ = self._locate(u)
        rise = _gather(_rise(values), index)
        return torch.addcmul(_gather(values, index), rise, offset, value=1 / self.step)

    def scalar_curvature_bound(self) -> Tensor:
        return self.increments.abs().amax(1) / self.step


def _rise(values: Tensor) -> Tensor:
    """Difference to the next knot, in the shape of `values`."""
    return functional.pad(values.diff(dim=1), (0, 1))


def _gather(table: Tensor, index: Tensor) -> Tensor:
    """Entries of the flattened table; `index_select` is the fastest look-up on the CPU."""
    return table.flatten().index_select(0, index.flatten()).view_as(index)


def spline_roughness(module: nn.Module) -> Tensor | None:
    """TV2 of all spline activations in a module (Goujon et al. 2023, eq. 25), `None` without splines."""
    terms = [
        part.second_differences().abs().sum() / part.step
        for part in module.modules()
        if isinstance(part, LinearSpline)
    ]
    return torch.stack(terms).sum() if terms else None
