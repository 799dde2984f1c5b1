"""The learned convex regularizer `R(x; sigma)` on images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from convexreg.networks import colour
from convexreg.networks.base import GradientNetwork, Sigma, replaced, squeeze_batch
from convexreg.networks.colour_network import ColourNetwork
from convexreg.networks.evaluation import Evaluation
from convexreg.solvers.batch import per_image
from convexreg.solvers.curvature import Curvature
from convexreg.solvers.objective import Objective
from convexreg.solvers.precision import without_autocast

if TYPE_CHECKING:
    from typing_extensions import Self


class Regularizer(nn.Module):
    """`R(x; sigma)`, whose gradient is a gradient network.

    Images are `(B, C, H, W)` floating point, nominally in `[0, 1]`; `sigma` is the noise standard
    deviation on that scale, a float or one per image `(B,)`. With weight one, `R` is the right
    regularizer for `|A x - y|^2 / 2` with noise of that level. A gray model takes colour images too:
    it is applied to the three planes of an orthonormal colour transform, each with a weight, which keeps
    convexity, and multiplies bounds by the largest weight at most. A model for colour images with a part for
    the luminance (`ColourNetwork`) takes gray images too: that part is a gray model.

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
        self.colour_weights = False

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
            images as well. For colour images and a gray model it is the largest of the bounds of the planes,
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
        if channels in (None, self.in_channels) and not self.colour_weights:
            return self.network.lipschitz(image_size, sigma)
        bounds = self.network.lipschitz(image_size, colour.per_plane(sigma))
        return squeeze_batch(colour.largest(bounds))

    def strong_convexity(self) -> Tensor:
        """Proven modulus of strong convexity of a convex `R`, 0-dim in float64."""
        return self.network.strong_convexity()

    def curvature(self, x: Tensor, sigma: Sigma = None) -> Curvature | None:
        """Model of the Hessian at `x` for preconditioning."""
        return self.term(sigma).curvature(x)

    @without_autocast
    def magnitudes(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        """Size of the argument of every term at every pixel, `(B, terms, H, W)`, nonnegative.

        Colour images give three times as many images, three in a row for each: the channels of the colour
        transform.
        """
        own = self.of(x.shape[1])
        return own.network.magnitudes(*own.planes(x, sigma))

    def with_weights(self, weights: Tensor, *, colour: bool = False) -> Self:
        """The same regularizer, sharing its parameters, with a weight for every term and pixel.

        It stays convex, and its bounds scale with the largest weight of each term. Moving or converting
        it moves or converts the parameters of both: make it from a `copy.deepcopy` to avoid that.

        :param weights: nonnegative, `(B or 1, terms, H, W)`. The result takes images of that size.
        :param colour: they are for colour images, `(3 B, terms, H, W)` as `magnitudes` gives them.
        :raises ValueError: a wrong shape or number, negative or not finite.
        """
        if colour and (self.in_channels != 1 or weights.shape[0] % 3):
            raise ValueError(
                f"colour images have three weights each for a gray model, got {weights.shape[0]} for a model "
                f"of {self.in_channels} channel(s)"
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
        twin.colour_weights = colour
        return twin

    def subset(self, index: Tensor) -> Self:
        """The regularizer of some images of a batch: itself, unless every image has weights of its own.

        :param index: their numbers, `(N,)` integers.
        """
        if self.weighted_shape is None or self.weighted_shape[0] == 1:
            return self
        if self.colour_weights:
            index = (3 * index.unsqueeze(1) + index.new_tensor([0, 1, 2])).flatten()
        twin = replaced(self, network=self.network.part(index))
        twin.weighted_shape = (index.numel(), *self.weighted_shape[1:])
        return twin

    def of(self, channels: int) -> Self:
        """The regularizer of images of so many channels: itself, for gray ones the part for the luminance."""
        if channels != 1 or not isinstance(self.network, ColourNetwork):
            return self
        gray = replaced(self, network=self.network.luminance)
        gray.in_channels, gray.sigma_range = 1, self.gray_range
        return gray

    def of_planes(self) -> Self:
        """The regularizer of the planes of colour images as gray images, without the weights of planes."""
        twin = replaced(self)
        twin.colour_weights = False
        return twin

    def term(self, sigma: Sigma = None) -> RegularizationTerm:
        """`R(.; sigma)` as an objective for the solvers, with the parameters as they are now."""
        return RegularizationTerm(self, sigma)

    def reached(self, sigma: Sigma) -> tuple[Sigma, Tensor | None]:
        """The noise level within the range that stands for `sigma`, and the scale of the images that takes
        it there, 0-dim or `(B,)`; `None` where none needs one.

        :raises ValueError: no level, one that is not positive, or one of images that are not in [0, 1].
        """
        if self.sigma_range is None:
            return sigma, None
        low, high = self.sigma_range
        if sigma is None:
            raise ValueError(
                f"the model {self.name} is conditioned on the noise level: give sigma (deepinv: g_param)"
            )
        given = sigma
        if not isinstance(given, Tensor):
            given = torch.tensor(sigma, dtype=torch.float64, device="cpu")
        # levels are compared with the room that float32 rounding of 1/255 needs
        if bool(((given >= low * (1 - 1e-5)) & (given <= high * (1 + 1e-5))).all()):
            return given, None
        if not bool(((given > 0) & (given <= 1)).all()):
            least, most = given.min().item(), given.max().item()
            raise ValueError(
                f"sigma must be positive and at most 1, got {least:.5g}"
                + ("" if given.numel() == 1 else f" to {most:.5g}")
                + ". Noise levels are those of images in [0, 1] seen through an operator of norm one"
                + (": divide by 255, or by the norm" if most > 1 else "")
            )
        level = given.clamp(low, high)
        scale = level / given
        return level, scale if scale.ndim == 0 else scale.reshape(-1)

    def planes(self, x: Tensor, sigma: Sigma) -> tuple[Tensor, Sigma]:
        """The images as the network takes them, with their noise levels: colour images give three each.

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
        if x.shape[1] != 3 or self.in_channels != 1:
            kinds = {1: "gray or colour images", 3: "colour images"}
            if isinstance(self.network, ColourNetwork):
                kinds[3] = kinds[1]
            takes = kinds.get(self.in_channels, f"images of {self.in_channels} channels")
            raise ValueError(
                f"the model {self.name} takes {takes}, got {x.shape[1]} channels (bands that are "
                "neither gray nor colour are reconstructed one by one: per_channel=True of ConvexPrior)"
            )
        return colour.planes(x), colour.per_plane(sigma)

    def _check_weighted(self, x: Tensor) -> None:
        if self.weighted_shape is None:
            return
        count, *size = self.weighted_shape
        colour = x.shape[1] != self.in_channels
        if self.colour_weights:
            fits = colour and count == 3 * x.shape[0]
        else:
            fits = count == 1 or (not colour and count == x.shape[0])
        if not fits or size != list(x.shape[2:]):
            kind = f"{count // 3} colour" if self.colour_weights else f"{count}"
            raise ValueError(
                f"the weights of the model {self.name} are for {kind} image(s) of {tuple(size)} pixels, got "
                f"{x.shape[0]}{' colour' if colour else ''} image(s) of {tuple(x.shape[2:])}"
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


class RegularizationTerm(Objective):
    """`R(.; sigma)` of a regularizer as a term of an objective: `sum_p w_p R(plane p)` on colour images."""

    def __init__(self, regularizer: Regularizer, sigma: Sigma) -> None:
        self.regularizer, self.sigma = regularizer, sigma
        self._evaluations: dict[int, Evaluation] = {}

    def _planes(self, x: Tensor) -> tuple[Evaluation, Tensor, bool, Tensor | None]:
        """How to evaluate what the network takes, that, whether it is planes of colour images, and the scale
        that takes them to its noise levels."""
        regularizer, channels = self.regularizer.of(x.shape[1]), x.shape[1]
        planes, levels = regularizer.planes(x, self.sigma)
        if channels not in self._evaluations:
            self._evaluations[channels] = Evaluation(regularizer.network, levels)
        _, scale = regularizer.reached(self.sigma)
        return self._evaluations[channels], planes, channels != regularizer.in_channels, scale

    @without_autocast
    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        evaluation, planes, of_colour, scale = self._planes(x)
        value, grad = evaluation.value_and_grad(planes)
        assert value is not None
        assert grad is not None
        return _value(value, of_colour, scale), _grad(grad, of_colour, scale)

    @without_autocast
    def value(self, x: Tensor) -> Tensor:
        evaluation, planes, of_colour, scale = self._planes(x)
        value, _ = evaluation.value_and_grad(planes, grad=False)
        assert value is not None
        return _value(value, of_colour, scale)

    @without_autocast
    def grad(self, x: Tensor) -> Tensor:
        evaluation, planes, of_colour, scale = self._planes(x)
        _, grad = evaluation.value_and_grad(planes, value=False)
        assert grad is not None
        return _grad(grad, of_colour, scale)

    @without_autocast
    def curvature(self, x: Tensor) -> Curvature | None:
        evaluation, planes, of_colour, _ = self._planes(x)
        model = evaluation.curvature(planes)
        return colour.curvature(model) if of_colour and model is not None else model

    def lipschitz(self, x: Tensor) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        return self.regularizer.lipschitz(size, self.sigma, channels=x.shape[1]).to(x.device)

    def strong_convexity(self, x: Tensor) -> Tensor:
        if self.regularizer.convex:
            return self.regularizer.strong_convexity().to(x.device)
        return -self.lipschitz(x)  # no Hessian of a function with L-Lipschitz gradient is below -L

    def subset(self, index: Tensor) -> RegularizationTerm:
        sigma = self.sigma
        if isinstance(sigma, Tensor) and sigma.numel() > 1:
            sigma = sigma.reshape(-1)[index.to(sigma.device)]
        return RegularizationTerm(self.regularizer.subset(index), sigma)


def _value(value: Tensor, of_colour: bool, scale: Tensor | None) -> Tensor:
    """Of the images, `R(s x) / s^2`."""
    value = colour.total(value) if of_colour else value
    return value if scale is None else value / scale.to(value) ** 2


def _grad(grad: Tensor, of_colour: bool, scale: Tensor | None) -> Tensor:
    """Of the images, `grad R(s x) / s`."""
    grad = colour.from_planes(colour.weighted(grad)) if of_colour else grad
    return grad if scale is None else grad / per_image(scale.to(grad), grad)
