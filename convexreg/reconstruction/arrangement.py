"""Complex and stacked measurements, complex images and volumes, as real planes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from convexreg.reconstruction.checks import check_measurements
from convexreg.solvers.batch import per_image
from convexreg.solvers.deepinv_rules import noise_level
from convexreg.solvers.operator_rules import operator_bounds, sees_images
from convexreg.solvers.operators import NOTHING_PROVEN, OperatorBounds
from convexreg.solvers.progress import Progress


class Arrangement(nn.Module):
    """A physics between real images `(B, planes, H, W)` and one real tensor of measurements.

    Planes are the real parts of all channels and then their imaginary parts, slices of a volume
    `(B, C, D, H, W)` or frames of a film among them. Complex measurements are as many real ones more,
    those of a stacked physics one long vector. All of that is isometric and linear over the real numbers, so
    that an adjoint stays one: the real inner product is the real part of the complex one.

    :param physics: with `A` and `A_adjoint`, or stacked, with `physics_list`, whose parts have them.
    :param y: its measurements, a tensor or, of a stacked physics, as many as it has parts.
    :ivar bounds: of the parts, added up: the eigenvalues of `sum A_i^T A_i` lie between the sums of the
        smallest and of the largest ones (Weyl).
    :ivar noise_model: of the physics, where measurements are as it makes them.
    :raises ValueError: not as many measurements as parts, or a volume of three slices.
    """

    def __init__(self, physics: Any, y: Any) -> None:
        super().__init__()
        self.stacked = not isinstance(y, Tensor)
        parts, pieces = (list(physics.physics_list), list(y)) if self.stacked else ([physics], [y])
        if len(parts) != len(pieces):
            raise ValueError(
                f"the stacked physics has {len(parts)} parts, and there are {len(pieces)} measurements"
            )
        # modules are converted to float64 with this one; deepinv's stacked physics keeps them in a list
        self.modules_among = nn.ModuleList(part for part in parts if isinstance(part, nn.Module))
        self.others = [] if len(self.modules_among) == len(parts) else parts
        self.shapes = [piece.shape[1:] for piece in pieces]
        self.complex = [piece.is_complex() for piece in pieces]
        image = self._back_projected(pieces)
        self.image_shape, self.complex_image = image.shape[1:], image.is_complex()
        if image.ndim > 4 and self.planes(image).shape[1] == 3:
            raise ValueError(
                f"images of shape {tuple(image.shape)} have three slices, which would be taken for colours; "
                "reconstruct them one by one"
            )
        self.bounds = self._bounds(image)
        plain = not self.stacked and not self.complex[0]
        self.noise_model = getattr(physics, "noise_model", None) if plain else None

    @property
    def parts(self) -> Sequence[Any]:
        """Those of a stacked physics, or the physics alone."""
        return self.others or list(self.modules_among)

    def _back_projected(self, pieces: Sequence[Tensor]) -> Tensor:
        image, *others = (
            part.A_adjoint(piece) for part, piece in zip(self.parts, pieces, strict=True)
        )
        for other in others:
            image = image + other
        return image

    def _bounds(self, image: Tensor) -> OperatorBounds:
        if self.complex_image and not all(sees_images(part) for part in self.parts):
            return NOTHING_PROVEN
        # the identity's do not depend on what the images are
        like = self.planes(image) if self.complex_image else image
        first, *others = (operator_bounds(part, like) for part in self.parts)
        if not others:
            return replace(first, normal=first.normal if image.ndim == 4 else None)
        largest, smallest = first.largest, first.smallest
        for each in others:
            largest, smallest = largest + each.largest, smallest + each.smallest
        return OperatorBounds(largest, smallest, "sum of the bounds of the parts")

    def A(self, x: Tensor) -> Tensor:
        """Real measurements of real planes."""
        image = self.image(x)
        measured = [part.A(image) for part in self.parts]
        return self.measurements(measured if self.stacked else measured[0])

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Its adjoint."""
        sizes = [
            shape.numel() * (1 + twice)
            for shape, twice in zip(self.shapes, self.complex, strict=True)
        ]
        pieces = []
        each = y.split(sizes, 1) if self.stacked else [y]
        for piece, shape, twice in zip(each, self.shapes, self.complex, strict=True):
            whole = piece.reshape(-1, (1 + twice) * shape[0], *shape[1:])
            pieces.append(torch.complex(*whole.chunk(2, 1)) if twice else whole)
        return self.planes(self._back_projected(pieces))

    def measurements(self, y: Any) -> Tensor:
        """As one real tensor."""
        if isinstance(y, Tensor):
            return _real(y)
        return torch.cat([_real(piece).flatten(1) for piece in y], 1)

    def planes(self, image: Tensor) -> Tensor:
        """An image as real planes, `(B, planes, H, W)`."""
        image = _real(image)
        return image.flatten(1, -3) if image.ndim > 4 else image

    def image(self, x: Tensor) -> Tensor:
        """The inverse of `planes`."""
        if not self.complex_image:
            return x.reshape(-1, *self.image_shape)
        halves = (half.reshape(-1, *self.image_shape) for half in x.chunk(2, 1))
        return torch.complex(*halves)

    def sigma(self, sigma: Any, y: Any) -> Any:
        """The noise of the real measurements: a real and an imaginary part have each half of the variance.

        :param sigma: as `reconstruct` takes it; of a stacked physics one for all parts, or a list of one for
            each. What is `None` the noise models say.
        :raises ValueError: they do not, or there are not as many as parts.
        """
        if not self.stacked and not self.complex[0]:
            return sigma
        given = list(sigma) if isinstance(sigma, (list, tuple)) else [sigma] * len(self.shapes)
        if len(given) != len(self.shapes):
            raise ValueError(
                f"sigma must be one number or one for each of the {len(self.shapes)} parts of the physics, "
                f"got {len(given)}"
            )
        levels = []
        for part, level, piece in zip(
            self.parts, given, [y] if isinstance(y, Tensor) else y, strict=True
        ):
            level = noise_level(part) if level is None else level
            if level is None:
                model = type(getattr(part, "noise_model", None)).__name__
                raise ValueError(
                    "give sigma, the standard deviation of the noise, as a list of one number for each part "
                    f"of the physics: its {type(part).__name__} has {model}, and of complex and stacked "
                    "measurements that of GaussianNoise alone is known"
                )
            like = _real(piece)
            level = torch.as_tensor(level, dtype=like.dtype, device=like.device)
            level = per_image(level, like) if level.ndim == 1 else level
            levels.append((level / 2**0.5 if piece.is_complex() else level).expand_as(like))
        return torch.cat([each.flatten(1) for each in levels], 1) if self.stacked else levels[0]

    def following(
        self, callback: Callable[[Progress], None] | None
    ) -> Callable[[Progress], None] | None:
        """The callback, told of images as the physics has them."""
        if callback is None:
            return None
        return lambda progress: callback(replace(progress, x=self.image(progress.x)))


def arranged(physics: Any, y: Any, *, slices: bool) -> Arrangement | None:
    """How measurements and images are real planes, `None` where they already are.

    :param slices: images of more than two dimensions are taken slice by slice.
    :raises ValueError: measurements or an operator that make no sense.
    """
    if isinstance(y, Tensor):
        check_measurements(_real(y))
        if not hasattr(physics, "A_adjoint"):
            return None
        if not y.is_complex():
            try:
                image = physics.A_adjoint(y)
            except RuntimeError:
                return None  # said by the checks of the operator
            if not isinstance(image, Tensor) or not (
                image.is_complex() or (slices and image.ndim > 4)
            ):
                return None
    elif not hasattr(y, "__len__") or not hasattr(physics, "physics_list"):
        check_measurements(y)
    else:
        for piece in y:
            check_measurements(_real(piece) if isinstance(piece, Tensor) else piece)
    return Arrangement(physics, y)


def _real(x: Tensor) -> Tensor:
    """Real and imaginary parts as channels, one after the other; what is real as it is."""
    return torch.cat([x.real, x.imag], 1) if x.is_complex() else x
