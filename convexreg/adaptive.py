"""A convex regularizer whose strength depends on the place, decided once from a first reconstruction."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from convexreg.networks import colour, tiling
from convexreg.networks.base import Sigma, converted, replaced
from convexreg.networks.colour_network import Part
from convexreg.networks.holes import filled
from convexreg.networks.weight_network import ChromaWeights, ColourWeights, WeightNetwork
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers.objective import Objective


class AdaptiveRegularizer(nn.Module):
    """Two convex regularizers in turn: the second one weighted by what the first one reconstructed.

    Round 0 minimises with `first`. From its reconstruction `x0` the weight network decides how strong
    every term of `second` is at every pixel: `given(x0, sigma)`, convex, with proven bounds like any
    other, with which round 1 minimises. Given `x0` everything proven of a convex regularizer holds;
    how the weights follow the data is learned, and nothing is proven about it. With an adaptive `first` there
    are as many rounds more.

    :param first, second: of the same number of channels and noise levels.
    :param network: with as many terms as `second`.
    """

    def __init__(
        self,
        first: ConvexRegularizer | AdaptiveRegularizer,
        second: ConvexRegularizer,
        network: WeightNetwork | ColourWeights,
        *,
        name: str = "unnamed",
    ) -> None:
        super().__init__()
        self.first: ConvexRegularizer | AdaptiveRegularizer = first
        self.second, self.network = second, network
        self.name = name

    def extra_repr(self) -> str:
        """The name, above the parts."""
        return self.name

    @property
    def in_channels(self) -> int:
        """Of the images; a gray model takes colour as well, and a model for colour images gray ones."""
        return self.second.in_channels

    @property
    def sigma_range(self) -> tuple[float, float] | None:
        """The noise levels it is valid for."""
        return self.second.sigma_range

    def weights(self, x: Tensor, sigma: Sigma, seen: Tensor | None = None) -> Tensor:
        """Weights from a reconstruction `x` `(B, C, H, W)`: `(B, terms, H, W)`, of a gray model as many per
        image as it has planes.

        :param seen: where the measurements say something of `x`, `(B, 1, H, W)`. A reconstruction is smooth
            elsewhere whatever is there: there weights are those around, in the geometric mean.
        """
        own, network = self.second.of(x.shape[1]), self.network
        if own is not self.second and isinstance(network, ColourWeights):
            network = network.luminance
        planes, levels = own.planes(x, sigma)
        weights = tiling.weights(own.network, network, planes, levels)
        if seen is None or bool(seen.all()):
            return weights
        of_weights = seen.repeat_interleave(weights.shape[0] // seen.shape[0], 0)
        return filled(weights.log(), of_weights.expand_as(weights)).exp()

    def with_noise_ratios(self, luminance: float, chroma: float) -> AdaptiveRegularizer:
        """Of a model for colour images, see `Regularizer.with_noise_ratios`."""
        assert isinstance(self.network, ColourWeights)
        return replaced(
            self,
            first=self.first.with_noise_ratios(luminance, chroma),
            second=self.second.with_noise_ratios(luminance, chroma),
            network=self.network.with_ratios(luminance, chroma),
        )

    def given_in_turn(
        self, x: Tensor, sigma: Sigma, seen: Tensor | None = None
    ) -> ConvexRegularizer | GivenInTurn | GivenInWindows:
        """`given(x, sigma, seen)`; of large images, seen everywhere, what makes it piece by piece: of colour
        images the regularizers of their parts in turn, of one gray image those of its windows."""
        parts = (self.second.network, self.network)
        large = x[0, 0].numel() >= colour.LARGE and (seen is None or bool(seen.all()))
        if large and not any(tiling.differentiated(part, x) for part in parts):
            if x.shape[1] == 3:
                return GivenInTurn(self, x, sigma)
            if x.shape[:2] == (1, 1):
                return GivenInWindows(partial(self.given, sigma=sigma), x, *self._looks_at)
        return self.given(x, sigma, seen)

    @property
    def _looks_at(self) -> tuple[int | None, int]:
        """How many pixels away the weights of a pixel look, where that is known, and their blocks."""
        network, reach = self.network, self.second.network.reach()
        block = math.lcm(self.second.network.block, network.block)
        if reach is None or reach.circular:
            return None, block
        return -(-(network.radius + reach.radius) // block) * block, block

    def given(self, x: Tensor, sigma: Sigma, seen: Tensor | None = None) -> ConvexRegularizer:
        """The convex regularizer of the last round, its weights frozen at the reconstruction `x`.

        The result takes images of that size, any number of them if `x` is one gray image, and a noise
        level of its own when it is evaluated. It shares the parameters of `second`.

        :param x: `(B, C, H, W)`.
        :param sigma: noise level that the weights are for, one number or one per image.
        :param seen: see `weights`.
        """
        own = self.second.of(x.shape[1])
        return own.with_weights(self.weights(x, sigma, seen), channels=x.shape[1])

    def given_part(self, x: Tensor, sigma: Sigma, part: Part) -> ConvexRegularizer:
        """Of a model for colour images that for one of its parts (`Regularizer.of_part`).

        :param part: one of those of the network of `second`.
        """
        own, network = self.second.of_part(part), self.network
        assert isinstance(network, ColourWeights)
        if part.planes.start == 0:
            images = part.of(colour.in_planes(x))
            planes, levels = own.planes(images, part.level(sigma))
            weights = tiling.weights(part.network, network.luminance, planes, levels)
        else:
            planes, levels = self.second.planes(x, sigma)
            weights = tiling.weights(self.second.network, ChromaWeights(network), planes, levels)
        return own.with_weights(weights)


class GivenInTurn:
    """The convex regularizer of round 1 for large colour images, of which a part can be had alone.

    The weights of all planes together take up to a hundred times the memory of the image. As a whole it is
    what `AdaptiveRegularizer.given` makes; that is made when it is asked for and kept.
    """

    def __init__(self, model: AdaptiveRegularizer, x: Tensor, sigma: Sigma) -> None:
        self.model, self.x, self.sigma = model, x, sigma

    @property
    def in_channels(self) -> int:
        """Of the images; it takes colour."""
        return self.model.in_channels

    @cached_property
    def whole(self) -> ConvexRegularizer:
        """With the weights of all planes."""
        return self.model.given(self.x, self.sigma)

    def term(self, sigma: Sigma = None) -> Objective:
        """`R(.; sigma)` on the colour images."""
        return self.whole.term(sigma)

    def converted(self, device: torch.device, dtype: torch.dtype) -> ConvexRegularizer:
        """On another device and in another floating-point type."""
        return converted(self.whole, device, dtype)

    def plane(self, index: Tensor) -> GivenInWindows:
        """That of one of the planes as a gray image, without the weight of the plane.

        :param index: its number, three planes in a row for every image, `(1,)` integers.
        """
        x, sigma = self._image(index // 3)
        make = partial(self.model.given, sigma=sigma)
        return GivenInWindows(make, colour.planes(x)[index % 3], *self.model._looks_at)

    def part(self, part: Part, index: Tensor) -> GivenInWindows:
        """That of a part of one of the images, of a model for colour images.

        :param index: the number of the image, `(1,)` integers.
        """
        x, sigma = self._image(index)
        make = partial(self.model.given_part, sigma=sigma, part=part)
        return GivenInWindows(make, x, *self.model._looks_at)

    def _image(self, index: Tensor) -> tuple[Tensor, Sigma]:
        sigma = self.sigma
        if isinstance(sigma, Tensor) and sigma.numel() > 1:
            sigma = sigma.reshape(-1)[index.to(sigma.device)]
        return self.x[index], sigma


class GivenInWindows:
    """The convex regularizer of a round for one large image, of which that of a window can be had alone.

    :param make: the regularizer from a reconstruction, or from a piece of it.
    :param x: the reconstruction, `(1, C, H, W)`.
    :param margin: how many pixels away the weights of a pixel look, `None` if everywhere.
    :param block: of the pixels that have weights in common.
    """

    def __init__(
        self, make: Callable[[Tensor], ConvexRegularizer], x: Tensor, margin: int | None, block: int
    ) -> None:
        self.make, self.x, self.margin, self.block = make, x, margin, block

    @cached_property
    def whole(self) -> ConvexRegularizer:
        """That of the whole image."""
        return self.make(self.x)

    def term(self, sigma: Sigma = None) -> Objective:
        """`R(.; sigma)` on the image."""
        return self.whole.term(sigma)

    def converted(self, device: torch.device, dtype: torch.dtype) -> ConvexRegularizer:
        """On another device and in another floating-point type."""
        return converted(self.whole, device, dtype)

    def subset(self, index: Tensor) -> GivenInWindows:
        """Itself: there is one image."""
        del index
        return self

    def window(self, rows: slice, columns: slice) -> ConvexRegularizer:
        """That of a window, which begins at multiples of the block."""
        if self.margin is None:
            return self.whole.window(rows, columns)
        pieces, insides = [], []
        for part in (rows, columns):
            first = max(0, part.start - self.margin)
            pieces.append(slice(first, part.stop + self.margin))
            insides.append(slice(part.start - first, part.stop - first))
        return self.make(self.x[..., pieces[0], pieces[1]]).window(*insides)


class HasImage(Protocol):
    """The result of a round."""

    @property
    def image(self) -> Tensor:
        """Its reconstruction, `(B, C, H, W)`."""
        ...


R = TypeVar("R", bound=HasImage)


def rounds(
    model: Any,
    solve: Callable[[Any, Tensor, bool], R],
    start: Tensor,
    sigma: Sigma,
    seen: Tensor | None = None,
) -> list[R]:
    """Solve with a model in as many rounds as it has: their results, the last one last.

    :param model: an adaptive regularizer has one round more than its first part, any other one.
    :param solve: `(regularizer, start, whether it is the last round)` to a result.
    :param seen: see `AdaptiveRegularizer.weights`.
    """
    return _rounds(model, solve, start, sigma, seen, True)


def _rounds(
    model: Any,
    solve: Callable[[Any, Tensor, bool], R],
    start: Tensor,
    sigma: Sigma,
    seen: Tensor | None,
    is_last: bool,
) -> list[R]:
    if not isinstance(model, AdaptiveRegularizer):
        return [solve(model, start, is_last)]
    before = _rounds(model.first, solve, start, sigma, seen, False)
    image = before[-1].image
    return [*before, solve(model.given_in_turn(image, sigma, seen), image, is_last)]
