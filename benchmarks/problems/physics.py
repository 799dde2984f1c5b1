"""Forward operators that deepinv has in another form, with what is proven of them."""

from __future__ import annotations

from typing import Any

import torch
from deepinv.physics import MRI, LinearPhysics, Tomography
from torch import Tensor

from convexreg.solvers import OperatorBounds, operator_bounds


class RealMRI(LinearPhysics):
    """MRI of real images, which are embedded isometrically in the complex ones.

    :ivar mask: where there are measurements at all.
    :ivar bounds: an eigenvector of the complex problem need not be real: only the upper bound carries over.
    """

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        size = (mask.shape[-2], mask.shape[-1])
        self.inner = MRI(mask=mask, img_size=size, device=mask.device)
        bounds = operator_bounds(self.inner, mask.new_empty(1, 2, *size))
        self.bounds = OperatorBounds(bounds.largest, 0.0, bounds.proof)

    @property
    def mask(self) -> Tensor:
        mask = self.inner.mask
        assert isinstance(mask, Tensor)
        return mask

    def A(self, x: Tensor, **_: Any) -> Tensor:
        return self.inner.A(torch.cat([x, torch.zeros_like(x)], 1))

    def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
        return self.inner.A_adjoint(y)[:, :1]


class ScaledTomography(LinearPhysics):
    """Parallel-beam projections scaled to a norm of at most one.

    The entries are bilinear weights, hence nonnegative, and Schur's test `|A|^2 <= |A|_1 |A|_inf`
    needs one application to ones of the operator and of its adjoint.

    :param angles: in degrees.
    """

    def __init__(self, angles: Tensor, height: int, width: int) -> None:
        super().__init__()
        degrees: Any = angles
        kind = {"dtype": angles.dtype, "device": angles.device}
        self.inner = Tomography(angles=degrees, img_width=width, normalize=False, **kind)
        rows = self.inner.A(torch.ones(1, 1, height, width, **kind))
        columns = self.inner.A_adjoint(torch.ones_like(rows))
        self.scale = (rows.max().double() * columns.max().double()).rsqrt().item()
        self.bounds = OperatorBounds(1 + 1e-4, 0.0, "Schur's test, |A|_1 |A|_inf")

    def A(self, x: Tensor, **_: Any) -> Tensor:
        return self.scale * self.inner.A(x)

    def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
        return self.scale * self.inner.A_adjoint(y)
