"""A convex regularizer whose strength depends on the place, decided once from a first reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from convexreg.networks import tiling
from convexreg.networks.base import Sigma
from convexreg.networks.weight_network import ColourWeights, WeightNetwork
from convexreg.regularizer import ConvexRegularizer


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

    @property
    def in_channels(self) -> int:
        """Of the images; a gray model takes colour as well, and a model for colour images gray ones."""
        return self.second.in_channels

    @property
    def sigma_range(self) -> tuple[float, float] | None:
        """The noise levels it is valid for."""
        return self.second.sigma_range

    def weights(self, x: Tensor, sigma: Sigma) -> Tensor:
        """Weights from a reconstruction `x` `(B, C, H, W)`: `(B, terms, H, W)`, three per colour image of a
        gray model."""
        own, network = self.second.of(x.shape[1]), self.network
        if own is not self.second and isinstance(network, ColourWeights):
            network = network.luminance
        planes, levels = own.planes(x, sigma)
        return tiling.weights(own.network, network, planes, levels)

    def given(self, x: Tensor, sigma: Sigma) -> ConvexRegularizer:
        """The convex regularizer of the last round, its weights frozen at the reconstruction `x`.

        The result takes images of that size, any number of them if `x` is one gray image, and a noise
        level of its own when it is evaluated. It shares the parameters of `second`.

        :param x: `(B, C, H, W)`.
        :param sigma: noise level that the weights are for, one number or one per image.
        """
        own = self.second.of(x.shape[1])
        colour = x.shape[1] != own.in_channels
        return own.with_weights(self.weights(x, sigma), colour=colour)


class HasImage(Protocol):
    """The result of a round."""

    @property
    def image(self) -> Tensor:
        """Its reconstruction, `(B, C, H, W)`."""
        ...


R = TypeVar("R", bound=HasImage)


def rounds(
    model: Any, solve: Callable[[Any, Tensor, bool], R], start: Tensor, sigma: Sigma
) -> list[R]:
    """Solve with a model in as many rounds as it has: their results, the last one last.

    :param model: an adaptive regularizer has one round more than its first part, any other one.
    :param solve: `(regularizer, start, whether it is the last round)` to a result.
    """
    return _rounds(model, solve, start, sigma, True)


def _rounds(
    model: Any, solve: Callable[[Any, Tensor, bool], R], start: Tensor, sigma: Sigma, is_last: bool
) -> list[R]:
    if not isinstance(model, AdaptiveRegularizer):
        return [solve(model, start, is_last)]
    before = _rounds(model.first, solve, start, sigma, False)
    image = before[-1].image
    return [*before, solve(model.given(image, sigma), image, is_last)]
