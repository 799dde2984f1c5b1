"""Denoising with an infimal convolution, image and codes together.

`min_x |x - y|^2 / 2 + lam R(x)` with `R(x) = w psi(c W x)`, `psi` an infimal convolution, is the problem

    min_{x, a}  P(x, a) = |x - y|^2 / 2 + t ( |K x - D a|^2 / 2 + sum_k s_k |a_k| ),    K = c W,  t = lam w,

convex in both. For every `r` with `|(D^T r)_k| <= s_k`

    min P >= t <r, K y> - t^2 |K^T r|^2 / 2 - t |r|^2 / 2

(Fenchel and Rockafellar): the difference from `P(x, a)` is a duality gap, and, as the minimum over `a` is
1-strongly convex in `x`, `|x - x*|^2 / 2` is at most that. Solved for one after the other, as `R` does for
gradients, the codes would be found anew for every image.
"""

from __future__ import annotations

import time
from typing import cast

import torch
from torch import Tensor

from convexreg.networks.base import GradientNetwork, Sigma
from convexreg.networks.codes import certified, norms, product, shrunk, squared_norm
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution
from convexreg.networks.potentials import InfimalConvolution
from convexreg.regularizer import Regularizer
from convexreg.solvers.certificates import Certificate
from convexreg.solvers.solution import Solution, Status

_CHECK = 10
"""Iterations from one look at the duality gap to the next."""


def latent_module(network: GradientNetwork) -> GradientModule | None:
    """The network, if it is a module of an infimal convolution that `denoise_with_codes` takes."""
    if not isinstance(network, GradientModule) or not isinstance(network.phi, InfimalConvolution):
        return None
    return network if network.bias is None and network.rho is None else None


@torch.no_grad()
def denoise_with_codes(
    regularizer: Regularizer,
    y: Tensor,
    sigma: Sigma = None,
    *,
    lam: float = 1.0,
    gap_tol: float = 1e-3,
    max_iter: int = 2000,
    time_limit: float | None = None,
) -> Solution:
    """`argmin_x |x - y|^2 / 2 + lam R(x; sigma)` to a certified relative gap, image by image.

    Accelerated proximal gradient (Beck & Teboulle 2009) with restarts by the gradient. With circular padding
    the image is eliminated: it is the minimiser for the codes, a division of spectra, and the step on the
    codes is that of `t |D|^2`, which bounds the curvature of what is left. Else both take steps, with the
    bounds `1 + 2 t |K|^2` and `2 t |D|^2`, from `|p - q|^2 <= 2 |p|^2 + 2 |q|^2`.

    :param regularizer: of one module with an `InfimalConvolution`, without bias, in the dtype of `y`.
    :param y: noisy images `(B, C, H, W)`.
    :param sigma: noise level of a conditioned network.
    :param time_limit: seconds, of all images.
    :return: `certificate` holds the duality gap, `stationarity` the rms of `x - y + t K^T r`.
    :raises ValueError: a regularizer of another kind.
    """
    module = latent_module(regularizer.network)
    if module is None or y.shape[1] != regularizer.in_channels:
        raise ValueError(
            f"{regularizer.name} is no module of an infimal convolution on images of {y.shape[1]} "
            "channel(s); use reconstruct, which takes any regularizer"
        )
    start = time.perf_counter()
    levels = torch.as_tensor(0.0 if sigma is None else sigma, dtype=torch.float64)
    levels = levels.reshape(-1).expand(len(y))
    runs = []
    for image, level in zip(y.split(1), levels.tolist(), strict=True):
        joint = _Joint(module, image, None if sigma is None else level, lam)
        left = None if time_limit is None else time_limit - (time.perf_counter() - start)
        runs.append(joint.solve(gap_tol, max_iter, left))
    x, status, iterations, gap, lower, stationarity = (
        torch.cat(parts) for parts in zip(*runs, strict=True)
    )
    return Solution(
        x=x,
        status=status,
        iterations=iterations,
        evaluations=iterations.double(),
        certificate=Certificate(gap, lower, (2 * gap).sqrt(), y.dtype),
        stationarity=stationarity,
        seconds=time.perf_counter() - start,
    )


class _Joint:
    """The problem of one image."""

    def __init__(self, module: GradientModule, y: Tensor, sigma: float | None, lam: float) -> None:
        potential = cast("InfimalConvolution", module.phi)
        self.potential, self.operator, self.y = potential, module.operator, y
        self.atoms, self.thresholds = potential.atoms, potential.thresholds
        channels = module.operator.out_channels
        scale, weight = y.new_ones(1, channels, 1, 1), y.new_ones(1, 1, 1, 1)
        if module.conditioning is not None:
            scale, weight = module.conditioning.factors(y, sigma)
        self.scale, self.weight = scale.expand(1, channels, 1, 1), float(lam * weight)
        squares = self.weight * self.scale.flatten(1).square()
        self.spectrum: Tensor | None = None
        operator, size = module.operator, (y.shape[-2], y.shape[-1])
        if isinstance(operator, Convolution) and operator.padding == "circular" and y.shape[1] == 1:
            self.spectrum = 1 + operator.normal_symbol(squares, size)
        bound = operator.squared_norm(squares, size)
        self.image_step = float(1 / (1 + 2 * bound))
        self.code_step = float(1 / squared_norm(self.atoms)) / (
            1 if self.spectrum is not None else 2
        )

    def responses(self, x: Tensor) -> Tensor:
        """`K x` in columns."""
        return self.potential.columns(self.scale * self.operator(x))

    def image(self, columns: Tensor) -> Tensor:
        """`t K^T` of columns."""
        shape = torch.Size((1, columns.shape[0], *self.y.shape[2:]))
        z = self.potential.from_columns(columns, shape)
        return self.operator.adjoint(self.weight * self.scale * z)

    def moved(self, x: Tensor, error: Tensor, explained: Tensor) -> Tensor:
        """The next image: the minimiser for codes that explain `D a`, or a step with `K x - D a`."""
        if self.spectrum is None:
            return x - self.image_step * (x - self.y + self.image(error))
        spectrum = torch.fft.rfft2(self.y + self.image(explained)) / self.spectrum
        return torch.fft.irfft2(spectrum, s=self.y.shape[-2:])

    def solve(self, gap_tol: float, max_iter: int, time_limit: float | None):
        """Image, status, iterations, gap, lower bound and stationarity, each with a batch dimension."""
        began = time.perf_counter()
        x, codes = self.y, None
        u = self.responses(x)
        codes = u.new_zeros(self.atoms.shape[1], *u.shape[1:])
        explained = torch.zeros_like(u)
        x = self.moved(x, u, explained)
        u = self.responses(x)
        now = (x, codes, u, explained)
        ahead, momentum, iteration = now, 1.0, 0
        transposed, soft = self.atoms.mT.contiguous(), self.code_step * self.thresholds
        while True:
            if iteration % _CHECK == 0 or iteration == max_iter:
                gap, lower, stationarity = self.gap(*now)
                over = time_limit is not None and time.perf_counter() - began > time_limit
                converged = gap <= gap_tol * lower
                if converged or over or iteration == max_iter:
                    break
            iteration += 1
            x, codes, u, explained = ahead
            error = u - explained
            a = shrunk(codes + self.code_step * product(transposed, error), soft)
            d = product(self.atoms, a)
            z = self.moved(x, error, d)
            following = (z, a, self.responses(z), d)
            turned = ((codes - a) * (a - now[1])).sum() / self.code_step
            if self.spectrum is None:
                turned = turned + ((x - z) * (z - now[0])).sum() / self.image_step
            if turned > 0:
                momentum = 1.0
            larger = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ratio = (momentum - 1) / larger
            ahead = tuple(
                new + ratio * (new - old) for new, old in zip(following, now, strict=True)
            )
            now, momentum = following, larger
        status = (
            Status.CONVERGED if converged else Status.TIME_LIMIT if over else Status.MAX_ITERATIONS
        )
        numbers = torch.tensor([[int(status)], [iteration]], device=x.device)
        bounds = torch.tensor(
            [[gap], [lower], [stationarity]], dtype=torch.float64, device=x.device
        )
        return (now[0], *numbers, *bounds)

    def gap(
        self, x: Tensor, codes: Tensor, u: Tensor, explained: Tensor
    ) -> tuple[float, float, float]:
        """Duality gap of image and codes, a lower bound on the minimum, and the rms of `x - y + t K^T r`.

        The gap is the sum of `|x - y + t K^T r|^2 / 2` and `t` times that of the codes.
        """
        found = certified(u - explained, codes, self.atoms, self.thresholds)
        slope = x - self.y + self.image(found.residual)
        misfit = float((x - self.y).double().square().sum()) / 2
        penalty = float((u - explained).double().square().sum()) / 2
        penalty += float((self.thresholds.double() @ norms(codes).double()).sum())
        square = float(slope.double().square().sum())
        gap = square / 2 + self.weight * float(found.gap.double().sum())
        return gap, misfit + self.weight * penalty - gap, (square / slope.numel()) ** 0.5
