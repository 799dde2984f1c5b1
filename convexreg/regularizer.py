"""The learned convex regularizer `R(x; sigma)` on images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from convexreg.networks.bands import layout
from convexreg.networks.base import GradientNetwork, Sigma, replaced, squeeze_batch
from convexreg.networks.colour_network import CONTRAST, ColourNetwork, Part
from convexreg.networks.noise_range import reached
from convexreg.networks.term import RegularizationTerm
from convexreg.solvers.batch import per_image
from convexreg.solvers.curvature import Curvature
from convexreg.solvers.precision import without_autocast

if TYPE_CHECKING:
    from typing_extensions import Self


class Regularizer(nn.Module):
    """`R(x; sigma)`, whose gradient is a gradient network.

    Images are `(B, C, H, W)` floating point, nominally in `[0, 1]`; `sigma` is the noise standard
    deviation on that scale, a float or one per image `(B,)`. With weight one, `R` is the right
    regularizer for `|A x - y|^2 / 2` with noise of that level. A gray model takes other images too,
    as a sum over orthonormal planes (`networks.bands`): of colour images the three planes of a colour
    transform, each with a weight, which keeps convexity, and multiplies bounds by the largest weight at most;
    of images with any other number of channels (bands, real and imaginary part) the channels. A model for
    colour images with a part for the luminance (`ColourNetwork`) takes those that are not of three channels
    by that part, which is a gray model.

    Levels outside of the range that the network knows are reached by scale: there `R(x; sigma)` is
    `R(s x; s sigma) / s^2` with the `s` that takes `sigma` to the end of the range, the regularizer of
    images multiplied by `s`. Its Hessian is that of `R(.; s sigma)` at `s x`, so that it is convex with the
    bounds of the level `s sigma`. Only what counts as much contrast changes.

    :param network: a gradient network on one or more channels.
    :param sigma_range: the noise levels the network is valid for, `(lowest, highest)`, or `None`
        when it is not conditioned on the noise.
    :param name: what to call it in messages and results.
    :ivar gray_range: the noise levels for gray images.
    """

    def __init__(
        self,
        network: GradientNetwork,
        *,
        in_channels: int = 1,
        sigma_range: tuple[float, float] | None = None,
        name: str = "unnamed",
    ) -> None:
        super().__init__()
        self.network = network
        self.in_channels = in_channels
        self.sigma_range = sigma_range
        self.name = name
        self.gray_range = sigma_range
        self.weighted_shape: tuple[int, int, int] | None = None
        self.weighted_channels = in_channels

    def extra_repr(self) -> str:
        """Name and noise levels, above the parts."""
        if self.sigma_range is None:
            return self.name
        low, high = (255 * level for level in self.sigma_range)
        return f"{self.name}, noise {low:.3g}/255 to {high:.3g}/255"

    @property
    def convex(self) -> bool:
        """Whether `R` is convex by construction."""
        return self.network.monotone

    def energy(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        """`R(x; sigma)`, `(B,)` in float64."""
        return self.term(sigma).value(x)

    def grad(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        """`grad R(x; sigma)`, in the shape of `x`. Differentiable in `x` and the parameters."""
        return self.term(sigma).grad(x)

    forward = grad

    def value_and_grad(self, x: Tensor, sigma: Sigma = None) -> tuple[Tensor, Tensor]:
        """Energy and gradient, sharing the filter responses."""
        return self.term(sigma).value_and_grad(x)

    @without_autocast
    def lipschitz(
        self,
        image_size: tuple[int, int] | None = None,
        sigma: Sigma = None,
        *,
        channels: int | None = None,
    ) -> Tensor:
        """Proven Lipschitz constant of `grad R` (2-norm): 0-dim, or `(B,)` with one sigma or weights per
        image.

        :param image_size: `(H, W)` for a bound on that grid; for every size when omitted.
        :param channels: of the images; as many as the model has when omitted, or one for a model for colour
            images as well. For several planes and a gray model it is the largest of the bounds of the planes,
            each times its weight.
        """
        own = self.of(channels or 1)
        if own is not self and channels is None:
            return torch.maximum(
                *(self.lipschitz(image_size, sigma, channels=each) for each in (1, 3))
            )
        if own is not self:
            return own.lipschitz(image_size, sigma)
        sigma, _ = self.reached(sigma)
        if self.weighted_channels != self.in_channels:
            channels = self.weighted_channels
        if channels in (None, self.in_channels):
            return self.network.lipschitz(image_size, sigma)
        planes = layout(channels)
        bounds = self.network.lipschitz(image_size, planes.per_plane(sigma))
        return squeeze_batch(planes.largest(bounds))

    def strong_convexity(self) -> Tensor:
        """Proven modulus of strong convexity of a convex `R`, 0-dim in float64."""
        return self.network.strong_convexity()

    def curvature(self, x: Tensor, sigma: Sigma = None) -> Curvature | None:
        """Model of the Hessian at `x` for preconditioning."""
        return self.term(sigma).curvature(x)

    @without_autocast
    def magnitudes(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        """Size of the argument of every term at every pixel, `(B, terms, H, W)`, nonnegative.

        Images of several planes give as many images, in a row for each: of colour images the channels of the
        colour transform.
        """
        own = self.of(x.shape[1])
        return own.network.magnitudes(*own.planes(x, sigma))

    def with_weights(self, weights: Tensor, *, channels: int | None = None) -> Self:
        """The same regularizer, sharing its parameters, with a weight for every term and pixel.

        It stays convex, and its bounds scale with the largest weight of each term. Moving or converting
        it moves or converts the parameters of both: make it from a `copy.deepcopy` to avoid that.

        :param weights: nonnegative, `(B or 1, terms, H, W)`. The result takes images of that size.
        :param channels: of the images; as many as the model has when omitted. For images of several planes
            and a gray model the weights are `(channels B, terms, H, W)`, as `magnitudes` gives them.
        :raises ValueError: a wrong shape or number, negative or not finite.
        """
        channels = channels or self.in_channels
        if channels != self.in_channels and (self.in_channels != 1 or weights.shape[0] % channels):
            raise ValueError(
                f"images of {channels} channels have as many weights each for a gray model, got "
                f"{weights.shape[0]} for a model of {self.in_channels} channel(s)"
            )
        if weights.ndim != 4 or weights.shape[1] != self.network.terms:
            raise ValueError(
                f"the weights must be (B, {self.network.terms}, H, W), one per term of the model "
                f"{self.name}, got {tuple(weights.shape)}"
            )
        least, most = weights.aminmax()  # NaN where there is one
        if not bool((least >= 0) & (most < float("inf"))):
            raise ValueError("the weights must be finite and nonnegative")
        twin = replaced(self, network=self.network.with_weights(weights))
        twin.weighted_shape = (weights.shape[0], weights.shape[2], weights.shape[3])
        twin.weighted_channels = channels
        return twin

    def subset(self, index: Tensor) -> Self:
        """The regularizer of some images of a batch: itself, unless every image has weights of its own.

        :param index: their numbers, `(N,)` integers.
        """
        if self.weighted_shape is None or self.weighted_shape[0] == 1:
            return self
        if self.weighted_channels != self.in_channels:
            planes = torch.arange(self.weighted_channels, device=index.device)
            index = (len(planes) * index.unsqueeze(1) + planes).flatten()
        twin = replaced(self, network=self.network.part(index))
        twin.weighted_shape = (index.numel(), *self.weighted_shape[1:])
        return twin

    def window(self, rows: slice, columns: slice) -> Self:
        """The regularizer of a window of one image: itself, unless there are weights of every pixel.

        :param rows, columns: of the window, which begins at multiples of the blocks of `BlockNetwork`.
        """
        if self.weighted_shape is None:
            return self
        count, *size = self.weighted_shape
        device = next(self.parameters()).device
        places = (torch.arange(length, device=device) for length in (count, *size))
        images, inside, across = (
            index[part] for index, part in zip(places, (slice(None), rows, columns), strict=True)
        )
        twin = replaced(self, network=self.network.part(images, inside, across))
        twin.weighted_shape = (count, len(inside), len(across))
        return twin

    def of(self, channels: int) -> Self:
        """The regularizer of images of so many channels: itself, of a model for colour images and any other
        number the part for the luminance."""
        if channels == self.in_channels or not isinstance(self.network, ColourNetwork):
            return self
        gray = replaced(self, network=self.network.luminance)
        gray.in_channels = gray.weighted_channels = 1
        gray.sigma_range = self.gray_range
        return gray

    def with_noise_ratios(self, luminance: float, chroma: float) -> Self:
        """A model for colour images, where noise is so many times as strong as the given level in luminance
        and colour differences, see `ColourNetwork.with_ratios`.

        :raises ValueError: farther apart than what the parts are for.
        """
        network = self.network
        assert isinstance(network, ColourNetwork)
        twin = replaced(self, network=network.with_ratios(luminance, chroma))
        if self.sigma_range is not None and self.gray_range is not None:
            low, high = (
                limit(CONTRAST * gray / luminance, own / chroma)
                for limit, gray, own in zip(
                    (max, min), self.gray_range, self.sigma_range, strict=True
                )
            )
            if low >= high:
                raise ValueError(
                    f"noise in the luminance and in the colour differences {chroma / luminance:.3g} times as "
                    f"strong are farther apart than what {self.name} is for"
                )
            twin.sigma_range = low, high
        return twin

    def of_part(self, part: Part) -> Self:
        """The regularizer of what a part of a model for colour images takes (`ColourNetwork.parts`)."""
        twin = replaced(self, network=part.network)
        twin.in_channels = twin.weighted_channels = part.planes.stop - part.planes.start
        if self.sigma_range is not None:
            low, high = self.sigma_range
            twin.sigma_range = tuple(part.ratio / part.contrast * level for level in (low, high))
        return twin

    def of_planes(self) -> Self:
        """The regularizer of the planes of colour images as gray images, without the weights of planes."""
        twin = replaced(self)
        twin.weighted_channels = self.in_channels
        return twin

    def term(self, sigma: Sigma = None) -> RegularizationTerm:
        """`R(.; sigma)` as an objective for the solvers, with the parameters as they are now."""
        return RegularizationTerm(self, sigma)

    def reached(self, sigma: Sigma) -> tuple[Sigma, Tensor | None]:
        """The noise level within the range that stands for `sigma`, and the scale of the images that takes
        it there, 0-dim or `(B,)`; `None` where none needs one.

        :raises ValueError: no level, one that is not positive, or one of images that are not in [0, 1].
        """
        return reached(sigma, self.sigma_range, self.name)

    def planes(self, x: Tensor, sigma: Sigma) -> tuple[Tensor, Sigma]:
        """The images as the network takes them, with their noise levels: several planes give as many each.

        Those whose level is reached by scale are scaled.

        :raises ValueError: images or noise levels that the model does not take.
        """
        if x.ndim != 4 or not x.is_floating_point():
            raise ValueError(
                f"images must be floating-point tensors (B, C, H, W), got {x.dtype} {tuple(x.shape)}"
            )
        sigma, scale = self.reached(sigma)
        own = next(self.parameters())
        if (x.dtype, x.device) != (own.dtype, own.device):
            raise ValueError(
                f"the images are {x.dtype} on {x.device} and the weights of the model {self.name} are "
                f"{own.dtype} on {own.device}; convert one of them"
            )
        levels = sigma.numel() if isinstance(sigma, Tensor) else 1
        if levels not in (1, x.shape[0]):
            raise ValueError(
                f"got {x.shape[0]} images and {levels} noise levels; give one level, or one per image"
            )
        self._check_weighted(x)
        if scale is not None:
            x = per_image(scale.to(x), x) * x
        if x.shape[1] == self.in_channels:
            return x, sigma
        if self.in_channels != 1:
            raise ValueError(
                f"the model {self.name} takes images of {self.in_channels} channels only, got {x.shape[1]}; "
                "models for gray images take any number"
            )
        planes = layout(x.shape[1])
        return planes.planes(x), planes.per_plane(sigma)

    def _check_weighted(self, x: Tensor) -> None:
        if self.weighted_shape is None:
            return
        count, *size = self.weighted_shape
        batch, channels = x.shape[:2]
        if self.weighted_channels != self.in_channels:
            fits = channels == self.weighted_channels and count == channels * batch
        else:
            fits = count == 1 or (channels == self.in_channels and count == batch)
        if not fits or size != list(x.shape[2:]):
            images = count * self.in_channels // self.weighted_channels
            raise ValueError(
                f"the weights of the model {self.name} are for {images} image(s) of "
                f"{self.weighted_channels} channel(s) of {tuple(size)} pixels, got {batch} of {channels} of "
                f"{tuple(x.shape[2:])}"
            )


class ConvexRegularizer(Regularizer):
    """`R(x; sigma)`, convex in `x`, whose gradient is a monotone gradient network.

    See `Regularizer` for what it takes and offers.

    :raises ValueError: a network that is not monotone.
    """

    def __init__(
        self,
        network: GradientNetwork,
        *,
        in_channels: int = 1,
        sigma_range: tuple[float, float] | None = None,
        name: str = "unnamed",
    ) -> None:
        if not network.monotone:
            raise ValueError(
                "the network is not monotone, so its potential need not be convex; build it from "
                "monotone parts (mGradNet-C, mGradNet-M) or convexify it (StronglyMonotone)"
            )
        super().__init__(network, in_channels=in_channels, sigma_range=sigma_range, name=name)
