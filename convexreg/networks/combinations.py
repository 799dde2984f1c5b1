"""Gradient networks made of gradient networks: sums, shifts, and the modular architectures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from convexreg.networks.base import GradientNetwork, Sigma, replaced
from convexreg.networks.cascaded import MGradNetC
from convexreg.networks.modular import GradientModule, IdentityRho
from convexreg.networks.operators import LinearOperator, Reach
from convexreg.networks.potentials import ElementwisePotential, LogCosh, Quadratic, per_channel


class LinearCombination(GradientNetwork):
    """`sum_m c_m g_m(x)`: sums and differences of gradient networks (Cor. 2.1, Thm 5).

    With `conic` learned coefficients are `softplus` of the parameters and a combination of monotone
    networks is monotone (Cor. 3.1).

    :param coefficients: fixed numbers, one per network; learned, starting at one, when omitted.
    :raises ValueError: a conic combination with a negative coefficient, or a wrong number of them.
    """

    fixed_coefficients: Tensor

    def __init__(
        self,
        networks: Sequence[GradientNetwork],
        *,
        conic: bool = True,
        coefficients: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.networks = cast("Sequence[GradientNetwork]", nn.ModuleList(networks))
        self.conic = conic
        if coefficients is None:
            start = math.log(math.expm1(1.0)) if conic else 1.0
            self.raw_coefficients = nn.Parameter(
                torch.full((len(networks),), start, dtype=torch.float32)
            )
        elif len(coefficients) != len(networks) or (conic and min(coefficients) < 0):
            raise ValueError(
                f"{len(networks)} networks need as many coefficients, nonnegative ones in a conic "
                f"combination; got {list(coefficients)}"
            )
        else:
            self.register_buffer(
                "fixed_coefficients", torch.tensor(coefficients, dtype=torch.float32)
            )

    @property
    def coefficients(self) -> Tensor:
        """`c_1 .. c_M`, `(M,)`."""
        if not hasattr(self, "raw_coefficients"):
            return self.fixed_coefficients
        raw = self.raw_coefficients
        return functional.softplus(raw) if self.conic else raw

    @property
    def monotone(self) -> bool:
        return self.conic and all(network.monotone for network in self.networks)

    def forward(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        pairs = zip(self.coefficients, self.networks, strict=True)
        return sum((c * network(x, sigma) for c, network in pairs), torch.zeros_like(x))

    def density(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        pairs = zip(self.coefficients, self.networks, strict=True)
        return sum((c * network.density(x, sigma) for c, network in pairs), x.new_zeros(()))

    def density_and_grad(self, x: Tensor, sigma: Sigma = None) -> tuple[Tensor, Tensor]:
        density, grad = x.new_zeros(()), torch.zeros_like(x)
        for c, network in zip(self.coefficients, self.networks, strict=True):
            its_density, its_grad = network.density_and_grad(x, sigma)
            density, grad = density + c * its_density, grad + c * its_grad
        return density, grad

    @property
    def terms(self) -> int:
        return sum(network.terms for network in self.networks)

    def magnitudes(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        return torch.cat([network.magnitudes(x, sigma) for network in self.networks], 1)

    def with_weights(self, weights: Tensor) -> GradientNetwork:
        parts = weights.split([network.terms for network in self.networks], 1)
        pairs = zip(self.networks, parts, strict=True)
        return replaced(self, networks=nn.ModuleList(n.with_weights(part) for n, part in pairs))

    def part(
        self, images: Tensor, rows: Tensor | None = None, columns: Tensor | None = None
    ) -> GradientNetwork:
        parts = [network.part(images, rows, columns) for network in self.networks]
        return replaced(self, networks=nn.ModuleList(parts))

    def reach(self) -> Reach | None:
        reaches = [network.reach() for network in self.networks]
        known = [reach for reach in reaches if reach is not None]
        if len(known) < len(reaches) or len({reach.circular for reach in known}) > 1:
            return None
        return Reach(max(reach.radius for reach in known), known[0].circular)

    def lipschitz(self, image_size: tuple[int, int] | None = None, sigma: Sigma = None) -> Tensor:
        total = self.coefficients.new_zeros(())
        for c, network in zip(self.coefficients.abs(), self.networks, strict=True):
            bound = c * network.lipschitz(image_size, sigma)
            total = total + torch.where(c > 0, bound, 0.0)  # zero times no bound is zero
        return total

    def strong_convexity(self) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device="cpu")
        if not self.monotone:
            return total
        pairs = zip(self.coefficients, self.networks, strict=True)
        return sum((c * network.strong_convexity() for c, network in pairs), total)

    def summands(self) -> list[tuple[Tensor | float, GradientNetwork]]:
        pairs = zip(self.coefficients, self.networks, strict=True)
        return [(c * inner, part) for c, network in pairs for inner, part in network.summands()]

    def curvatures(
        self, x: Tensor, sigma: Sigma = None, step: int = 1
    ) -> list[tuple[LinearOperator, Tensor]] | None:
        result = []
        for c, network in zip(self.coefficients, self.networks, strict=True):
            parts = network.curvatures(x, sigma, step)
            if parts is None:
                return None
            result += [(operator, c * curvature) for operator, curvature in parts]
        return result


class StronglyMonotone(GradientNetwork):
    """`g(x) + mu x` (Prop. 3.1): the gradient of a `mu`-strongly convex function when `g` is monotone.

    :param network: a monotone network, or any network with a proven Lipschitz constant (see below).
    :param mu: the modulus, `>= 0`. With `convexify` the network's own Lipschitz constant `L` is added
        to it, which makes a network that is not monotone monotone (Prop. 3.2).
    :raises ValueError: a network that is neither monotone nor convexified, or `mu < 0`; on evaluation,
        one to convexify that has no proven Lipschitz constant.
    """

    def __init__(self, network: GradientNetwork, mu: float, *, convexify: bool = False) -> None:
        super().__init__()
        if mu < 0 or not (network.monotone or convexify):
            raise ValueError(
                f"mu must be nonnegative (got {mu}) and the network monotone; pass convexify=True "
                "to add the Lipschitz constant of one that is not"
            )
        self.network, self.mu, self.convexify = network, mu, convexify

    @property
    def monotone(self) -> bool:
        return True

    def _shift(self, x: Tensor, sigma: Sigma) -> Tensor:
        if not self.convexify:
            return x.new_tensor(self.mu)
        # A bound for every image size: the network must be the same function on all of them.
        bound = self.network.lipschitz(None, sigma).to(x)
        if not torch.isfinite(bound).all():
            raise ValueError(
                "the network to convexify has no proven Lipschitz constant; use parts that have one "
                "(no rho)"
            )
        return (self.mu + bound).reshape(-1, *[1] * (x.ndim - 1))

    def forward(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        return self.network(x, sigma) + self._shift(x, sigma) * x

    def density(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        return self.network.density(x, sigma) + (self._shift(x, sigma) * x * x / 2).sum(1)

    def density_and_grad(self, x: Tensor, sigma: Sigma = None) -> tuple[Tensor, Tensor]:
        density, grad = self.network.density_and_grad(x, sigma)
        linear = self._shift(x, sigma) * x
        return density + (linear * x / 2).sum(1), grad + linear

    def part(
        self, images: Tensor, rows: Tensor | None = None, columns: Tensor | None = None
    ) -> GradientNetwork:
        return replaced(self, network=self.network.part(images, rows, columns))

    def reach(self) -> Reach | None:
        # the constant added for convexity depends on the weights of all pixels
        return None if self.convexify else self.network.reach()

    def lipschitz(self, image_size: tuple[int, int] | None = None, sigma: Sigma = None) -> Tensor:
        bound = self.network.lipschitz(image_size, sigma)
        shift = self.network.lipschitz(None, sigma) if self.convexify else 0.0
        return bound + shift + self.mu

    def strong_convexity(self) -> Tensor:
        return self.mu + self.network.strong_convexity()


class GradNetM(LinearCombination):
    """Modular gradient network (2024 paper, eqs 43-44): `a + sum_m c_m rho_m(phi_m(z_m)) W_m^T s_m(z_m)`.

    :param modules: the modules `m`.
    :param monotone: a conic combination (mGradNet-M needs it), otherwise coefficients of any sign.
    :param coefficients: fixed `c_m`; learned when omitted.
    :param offset: learn the constant `a`. Regularizers do without it: it would shift the mean.
    """

    def __init__(
        self,
        modules: Sequence[GradientModule],
        *,
        monotone: bool = False,
        coefficients: Sequence[float] | None = None,
        offset: bool = True,
    ) -> None:
        super().__init__(modules, conic=monotone, coefficients=coefficients)
        channels = modules[0].operator.in_channels
        self.offset = nn.Parameter(torch.zeros(channels, dtype=torch.float32)) if offset else None

    def forward(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        grad = super().forward(x, sigma)
        return grad if self.offset is None else grad + per_channel(self.offset, x)

    def density(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        density = super().density(x, sigma)
        return (
            density if self.offset is None else density + (per_channel(self.offset, x) * x).sum(1)
        )

    def summands(self) -> list[tuple[Tensor | float, GradientNetwork]]:
        return super().summands() if self.offset is None else [(1.0, self)]

    def density_and_grad(self, x: Tensor, sigma: Sigma = None) -> tuple[Tensor, Tensor]:
        density, grad = super().density_and_grad(x, sigma)
        if self.offset is None:
            return density, grad
        offset = per_channel(self.offset, x)
        return density + (offset * x).sum(1), grad + offset


class MGradNetM(GradNetM):
    """Monotone modular gradient network (2024 paper, Cor. 12.1).

    :raises ValueError: a module whose `phi` is not convex or whose `rho` is not monotone on its values.
    """

    def __init__(
        self,
        modules: Sequence[GradientModule],
        *,
        coefficients: Sequence[float] | None = None,
        offset: bool = True,
    ) -> None:
        if not all(module.monotone for module in modules):
            raise ValueError("every module of a monotone network must be monotone (Cor. 12.1)")
        super().__init__(modules, monotone=True, coefficients=coefficients, offset=offset)


class CMGN(LinearCombination):
    """Cascaded monotone gradient network (2023 paper, eqs 4-6): `W^T s(z_L) + V^T V x + b`.

    :param operator: the shared `W`.
    :param gram: the operator `V` of the positive semidefinite linear term.
    :param activations: one per layer of the cascade.
    """

    def __init__(
        self,
        operator: LinearOperator,
        gram: LinearOperator,
        activations: Sequence[ElementwisePotential],
    ) -> None:
        cascade = MGradNetC(operator, activations, unit_scales=True)
        super().__init__(
            [cascade, GradientModule(gram, Quadratic(), bias=False)], coefficients=(1.0, 1.0)
        )


class MMGN(MGradNetM):
    """Modular monotone gradient network (2023 paper, eqs 8-9).

    `g(x) = a + V^T V x + sum_k phi(z_k) W_k^T tanh(z_k)` with `phi = sum log cosh`, that is
    `rho = identity`.
    """

    def __init__(self, operators: Sequence[LinearOperator], gram: LinearOperator) -> None:
        modules = [GradientModule(operator, LogCosh(), rho=IdentityRho()) for operator in operators]
        modules.append(GradientModule(gram, Quadratic(), bias=False))
        super().__init__(modules, coefficients=[1.0] * len(modules))
