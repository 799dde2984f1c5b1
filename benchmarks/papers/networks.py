"""The architectures of the papers, built from the package's own parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convexreg.networks.base import GradientNetwork
from convexreg.networks.cascaded import GradNetC, MGradNetC
from convexreg.networks.combinations import CMGN, MMGN, GradNetM, MGradNetM
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Dense
from convexreg.networks.potentials import (
    ElementwisePotential,
    LinearSpline,
    LogCosh,
    LogSumExp,
    Quadratic,
    TanhMixture,
)

_SPLINE_KNOTS = 7

_TEMPERATURE = 4.0
"""Of the softmax of M networks, the best of 1, 2, 4, 8, 16 on the convex field's validation points (with
other seeds than the reported ones). At 1 a softmax of 7 channels starts almost flat and trains slowly."""


def mgradnet_c(
    dimension: int, hidden: int, depth: int, *, learned: bool = False
) -> GradientNetwork:
    """mGradNet-C: `depth` activations, tanh or the learned one of the released networks."""
    return initialised(MGradNetC(Dense(dimension, hidden), _activations(hidden, depth, learned)))


def gradnet_c(dimension: int, hidden: int, depth: int) -> GradientNetwork:
    """GradNet-C with tanh: the scales may be negative.

    The channels start as convex and concave ridges in turn; from equal signs the sum stays convex for long.
    """
    network = GradNetC(Dense(dimension, hidden), _activations(hidden, depth, False))
    with torch.no_grad():
        network.raw_alpha[-1, 1::2] *= -1
    return initialised(network)


def mgradnet_m(
    dimension: int,
    hidden: int,
    modules: int,
    *,
    linear: bool = False,
    temperature: float = _TEMPERATURE,
) -> GradientNetwork:
    """mGradNet-M: `rho = 1` and `a softmax(z) - b softmax(-z)`, `a, b >= 0` learned in every module.

    The conic combination of the modules is carried by `a` and `b`.

    :param linear: add a module `V^T V x`, as the 2023 paper does; softmax modules are bounded.
    """
    parts = _softmax_modules(dimension, hidden, modules, temperature)
    if linear:
        parts.append(GradientModule(Dense(dimension, dimension), Quadratic(), bias=False))
    return initialised(MGradNetM(parts, coefficients=[1.0] * len(parts)))


def gradnet_m(
    dimension: int, hidden: int, modules: int, *, temperature: float = _TEMPERATURE
) -> GradientNetwork:
    """GradNet-M: as mGradNet-M, the modules combined with learned numbers of any sign.

    They start from alternating signs, a difference of convex functions (Thm 5), for the same reason.
    """
    network = GradNetM(_softmax_modules(dimension, hidden, modules, temperature))
    with torch.no_grad():
        network.raw_coefficients[1::2] = -1
    return initialised(network)


def c_mgn(dimension: int, hidden: int, depth: int) -> GradientNetwork:
    """C-MGN of the 2023 paper (eqs 4-6)."""
    activations = _activations(hidden, depth, False)
    return initialised(CMGN(Dense(dimension, hidden), Dense(dimension, dimension), activations))


def m_mgn(dimension: int, hidden: int, modules: int) -> GradientNetwork:
    """M-MGN of the 2023 paper (eqs 8-9)."""
    operators = [Dense(dimension, hidden) for _ in range(modules)]
    return initialised(MMGN(operators, Dense(dimension, dimension)))


def ridge(dimension: int, hidden: int, *, limit: float, monotone: bool) -> GradientNetwork:
    """One layer of linear splines with 7 knots: CRR-NN (monotone) and its nonconvex form."""
    spline = LinearSpline(hidden, _SPLINE_KNOTS, limit, monotone=monotone)
    module = GradientModule(Dense(dimension, hidden), spline)
    return initialised(GradNetM([module], monotone=monotone, coefficients=[1.0]))


def softmax_layer(dimension: int, hidden: int, temperature: float) -> GradientNetwork:
    """`W^T softmax(tau (W x + b))`, the network of the universal approximation theorem (Thm 4)."""
    module = GradientModule(Dense(dimension, hidden), LogSumExp(temperature=temperature))
    return initialised(module)


class AutoregressiveFlow(nn.Module):
    """`z_i = exp(s_i(x_1 .. x_(i-1))) x_i + t_i(x_1 .. x_(i-1))`: one layer of an IAF (Kingma et al. 2016).

    By zuko, where a layer that is autoregressive in its input goes by the name of MAF. Its Jacobian is
    triangular: it is no gradient.

    :param hidden: units of the masked network of `s` and `t`.
    """

    def __init__(self, dimension: int, hidden: int) -> None:
        import zuko

        super().__init__()
        self.flow = zuko.flows.MAF(dimension, transforms=1, hidden_features=[hidden])

    def forward(self, x: Tensor) -> Tensor:
        """`(B, d)` to `(B, d)`."""
        return self.flow.transform()(x)


def initialised(network: GradientNetwork) -> GradientNetwork:
    """Draw the hidden biases as the released networks do, uniformly in `+-1 / sqrt(dimension)`."""
    for module in network.modules():
        if isinstance(module, GradNetC | GradientModule) and module.bias is not None:
            bound = module.operator.in_channels**-0.5
            nn.init.uniform_(module.bias, -bound, bound)
    return network


def _activations(hidden: int, depth: int, learned: bool) -> Sequence[ElementwisePotential]:
    return [TanhMixture(hidden) if learned else LogCosh() for _ in range(depth)]


def _softmax_modules(
    dimension: int, hidden: int, modules: int, temperature: float
) -> list[GradientModule]:
    return [
        GradientModule(
            Dense(dimension, hidden),
            LogSumExp(symmetric=True, learned=True, temperature=temperature),
        )
        for _ in range(modules)
    ]
