"""Published weights of learned ridge regularizers, of an ICNN and of CPR, as regularizers of this package.

The files are safetensors with the names of the authors' own state dictionaries:

- CRR-NN of Goujon et al. 2023 (github.com/axgoujon/convex_ridge_regularizers), trained at one level;
- CRR and WCRR for all noise levels, Goujon et al. 2024 (weakly_convex_ridge_regularizer);
- CRR with Huber potentials and the two-layer ICNN trained bilevel, arXiv 2510.01755
  (github.com/johertrich/LearnedRegularizers);
- CPR of arXiv 2412.13070, see `models.published_latent`.

But for CPR all of them pad by zeros before every convolution of the chain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from convexreg.models.convolutional_icnn import ConvolutionalICNN
from convexreg.models.files import ModelFileError, aside
from convexreg.models.published_latent import convex_patch_regularizer
from convexreg.networks.conditioning import Conditioning, FixedScaling
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution
from convexreg.networks.potentials import LinearSpline
from convexreg.regularizer import ConvexRegularizer, Regularizer

Weights = dict[str, Tensor]
_CPR = "prox.scaling_lmbda"
_FIRST_KERNEL = "{}.0.parametrizations.weight.original"


class SplineScaling(Conditioning):
    """`R = sum_c scale_c^-2 psi(scale_c u_c)` with `scale_c = exp(spline_c(255 sigma)) / (255 sigma)`.

    Goujon et al. 2024, eq. 21; their code adds 1e-5 to the denominator.

    :param values: of the linear splines at equidistant knots from 0 to `limit`, `(channels, knots)`.
    """

    limit = 30.0
    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values)

    def forward(self, sigma: Tensor | float | None) -> tuple[Tensor, Tensor]:
        if sigma is None:
            raise ValueError("this network is conditioned on the noise level: give sigma")
        values = self.values
        level = 255 * torch.as_tensor(sigma, dtype=values.dtype, device=values.device).reshape(-1)
        position = level / self.limit * (self.values.shape[1] - 1)
        knot = position.floor().clamp(0, self.values.shape[1] - 2).long()
        left, right = self.values[:, knot], self.values[:, knot + 1]
        scale = (torch.lerp(left, right, position - knot).exp() / (level + 1e-5)).mT
        return scale, scale**-2


def load_published(path: str | Path) -> Regularizer:
    """The regularizer in a file of published weights, which is recognised by the names it holds.

    Convex models come as `ConvexRegularizer`; WCRR is 1-weakly convex and comes as a `Regularizer`.
    Models trained at one noise level take any: their weight has to be tuned for others.

    :raises ModelFileError: not a readable safetensors file, or of an unknown model.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is not a readable safetensors file ({error})") from error
    builders = {**_BUILDERS, _CPR: partial(convex_patch_regularizer, metadata)}
    for key, build in builders.items():
        if key in weights:
            with aside():
                model = build(weights, path.stem)
            return model.eval().requires_grad_(False)
    raise ModelFileError(
        f"{path} holds weights of no model known here; expected a tensor named one of "
        f"{', '.join(builders)}"
    )


def _chain(kernels: Sequence[Tensor], *, normalised: bool) -> Convolution:
    """The chain of convolutions; `normalised` divides it by its norm on a periodic 256 x 256 grid."""
    channels = [kernels[0].shape[1], *(kernel.shape[0] for kernel in kernels)]
    operator = Convolution(channels, [kernel.shape[-1] for kernel in kernels], staged=True)
    with torch.no_grad():
        for parameter, kernel in zip(operator.kernels, kernels, strict=True):
            parameter.copy_(kernel)
        if normalised:
            operator.padding = "circular"
            norm = operator.squared_norm(image_size=(256, 256)).sqrt()
            operator.padding = "zero"
            operator.kernels[-1].div_(norm)
    return operator


def _spline(increments: Tensor, limit: float, *, monotone: bool) -> LinearSpline:
    """Activations with the given rise from knot to knot, `(C, knots - 1)`."""
    spline = LinearSpline(
        increments.shape[0], increments.shape[1] + 1, limit=limit, monotone=monotone
    )
    with torch.no_grad():
        spline.raw.copy_(_inverse_softplus(increments) if monotone else increments)
    return spline


def _inverse_softplus(positive: Tensor) -> Tensor:
    return positive.double().expm1().log().float()


def _multi_noise(weights: Weights, name: str) -> Regularizer:
    """Potential `mu psi_cvx - rho psi_ccv`; what tells WCRR (`rho = 1`) from CRR (`rho = 0`) is that
    its concave part was trained, and so differs from the identity it starts from."""
    limit = 0.1

    def increments(part: str) -> Tensor:
        """Slopes clipped to [0, 1], flat at both ends, antisymmetric."""
        knots = weights[f"activation_{part}.coefficients"]
        step = 2 * limit / (knots.shape[1] - 1)
        rise = functional.pad(knots.diff(dim=1)[:, 1:-1].clamp(0, step), (1, 1))
        return (rise + rise.flip(1)) / 2

    concave = weights["activation_ccv.coefficients"]
    identity = torch.linspace(-limit, limit, concave.shape[1], dtype=concave.dtype).expand_as(
        concave
    )
    convex = torch.allclose(concave, identity, atol=1e-6)
    rise = weights["mu_"].exp() * increments("cvx")
    kernels = [
        weights[_FIRST_KERNEL.format("conv_layer.conv_layers")],
        *(weights[f"conv_layer.conv_layers.{stage}.weight"] for stage in (1, 2)),
    ]
    network = GradientModule(
        _chain(kernels, normalised=True),
        _spline(rise if convex else rise - increments("ccv"), limit, monotone=convex),
        bias=False,
        conditioning=SplineScaling(weights["spline_scaling.coefficients"]),
    )
    kind = ConvexRegularizer if convex else Regularizer
    return kind(network, sigma_range=(0.0, SplineScaling.limit / 255), name=name)


def _one_level(weights: Weights, name: str) -> Regularizer:
    """Gradient `lambda W^T s(mu W x)`, every kernel of mean zero, monotone splines on [-0.1, 0.1]."""
    first, second = (
        weights[f"conv_layer.conv_layers.{stage}.parametrizations.weight.original"]
        for stage in (0, 1)
    )
    kernels = [first, second - second.mean((1, 2, 3), keepdim=True)]
    knots = weights["activation.coefficients_vect"].reshape(second.shape[0], -1)
    rise = functional.pad(knots.diff(dim=1)[:, 1:-1].clamp_min(0), (1, 1))
    strength, scale = weights["lmbd"].clamp_min(1e-4), weights["mu"].clamp_min(0.01)
    network = GradientModule(
        _chain(kernels, normalised=False),
        _spline(rise, 0.1, monotone=True),
        bias=False,
        conditioning=FixedScaling(
            scale.expand(1, second.shape[0]), (strength / scale).expand(1, second.shape[0])
        ),
    )
    return ConvexRegularizer(network, name=name)


def _huber(weights: Weights, name: str) -> Regularizer:
    """`exp(alpha - 2 s) g(exp(s) x)` with `g = sum_c exp(-2 a_c - beta) huber(exp(a_c + beta) W x)`."""
    kernels = [
        weights[_FIRST_KERNEL.format("regularizer.filters")],
        *(weights[f"regularizer.filters.{stage}.weight"] for stage in (1, 2)),
    ]
    per_channel, beta = weights["regularizer.scaling"].reshape(1, -1), weights["regularizer.beta"]
    outer, inner = weights["alpha"], weights["scale"]
    conditioning = FixedScaling(
        (beta + per_channel + inner).exp(), (outer - 2 * inner - 2 * per_channel - beta).exp()
    )
    clip = _spline(torch.ones(1, 2, dtype=torch.float32), 1.0, monotone=True)
    operator = _chain(kernels, normalised=True)
    return ConvexRegularizer(
        GradientModule(operator, clip, bias=False, conditioning=conditioning), name=name
    )


def _icnn(weights: Weights, name: str) -> Regularizer:
    """`exp(alpha - 2 s) g(exp(s) x)` with `g` the ICNN."""
    prefix = "regularizer.icnn."
    first = weights[prefix + "wx.parametrizations.weight.original"]
    second = weights[prefix + "wz.weight"]
    network = ConvolutionalICNN(
        (first.shape[1], first.shape[0], second.shape[0]),
        (first.shape[-1], second.shape[-1]),
        smoothing=math.exp(float(weights[prefix + "smoothing"])),
    )
    outer, inner = weights["alpha"], weights["scale"]
    with torch.no_grad():
        network.first.kernels[0].copy_(inner.exp() * first)
        network.first_bias.copy_(weights[prefix + "wx.bias"])
        network.raw_second.copy_(_inverse_softplus(second.clamp_min(0)))
        network.second_bias.copy_(weights[prefix + "wz.bias"])
        network.log_weight.copy_(weights[prefix + "scaling"].flatten() + outer - 2 * inner)
    return ConvexRegularizer(network, name=name)


_BUILDERS: dict[str, Callable[[Weights, str], Regularizer]] = {
    "spline_scaling.coefficients": _multi_noise,
    "activation.coefficients_vect": _one_level,
    "regularizer.beta": _huber,
    "regularizer.icnn.wz.weight": _icnn,
}
