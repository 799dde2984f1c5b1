"""Every optimisation algorithm of deepinv that takes a prior, on one problem with a known minimiser.

A new algorithm is a row of `ALGORITHMS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from convexreg.reconstruction.defaults import Tolerance
from convexreg.reconstruction.problem import Problem
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers import data_term

PROX_TOL = 1e-8
_KERNEL = ((0.0, 1.0, 0.0), (1.0, 20.0, 2.0), (0.0, 1.0, 0.0))


@dataclass(frozen=True)
class PluginProblem:
    """`|A x - y|^2 / 2 + lam R(x; sigma)` with a mild, asymmetric circular blur, in float64.

    The blur's smallest singular value is known, so the problem is strongly convex with a known modulus
    `mu` and every algorithm that solves it has to find the same image.
    """

    regularizer: ConvexRegularizer
    physics: Any
    y: Tensor
    sigma: float
    lam: float
    mu: float

    @classmethod
    def build(cls, regularizer: ConvexRegularizer, clean: Tensor) -> PluginProblem:
        """The problem for the image `clean`, `(1, 1, H, W)` in float64."""
        from deepinv.physics import BlurFFT

        kernel = torch.tensor(_KERNEL, dtype=torch.float64)
        size: Any = tuple(clean.shape[1:])
        physics = BlurFFT(size, filter=(kernel / kernel.sum())[None, None])
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        sigma = 0.1
        y = physics.A(clean) + sigma * noise.double()
        # the centre outweighs the rest: every frequency keeps at least the difference
        modulus = float((2 * kernel.max() - kernel.sum()) / kernel.sum()) ** 2
        return cls(regularizer, physics, y, sigma, 0.1, modulus)

    @property
    def step(self) -> float:
        """Proven step of gradient descent on the whole objective."""
        return self.prior().stepsize(self.physics, self.y, lambda_reg=self.lam, g_param=self.sigma)

    @property
    def long_step(self) -> float:
        """Too long a step, for backtracking to correct."""
        return 4 * self.step

    @property
    def data_step(self) -> float:
        """Proven step of gradient descent on the data term."""
        return 1 / float(self.variational().data.lipschitz(self.y))

    @property
    def prior_step(self) -> float:
        """Proven step of gradient descent on the weighted regularizer."""
        size = (self.y.shape[-2], self.y.shape[-1])
        return 1 / (self.lam * float(self.regularizer.lipschitz(size, self.sigma)))

    def variational(self, chains: int = 1) -> Problem:
        """What is minimised, or sampled, for so many copies of the measurements."""
        data = data_term(self.physics, self.y.repeat(chains, 1, 1, 1))
        return Problem(data, self.regularizer, self.sigma, self.lam)

    def prior(self) -> Any:
        """The regularizer as deepinv's prior."""
        from convexreg import ConvexPrior

        return ConvexPrior(self.regularizer, prox_tol=PROX_TOL)

    def minimiser(self) -> Tensor:
        """The minimiser by convexreg's own solver."""
        return self.variational().minimise(self.y, tolerance=Tolerance(gtol=PROX_TOL)).x

    def data_gradient(self, image: Tensor) -> Tensor:
        """`A^T (A x - y)`."""
        return self.physics.A_adjoint(self.physics.A(image) - self.y)

    def reconstruction(self, regularizer: ConvexRegularizer, gtol: float) -> Tensor:
        """By `ConvexReconstructor` with a regularizer in place of the problem's."""
        from convexreg import ConvexReconstructor

        model = ConvexReconstructor(
            regularizer, sigma=self.sigma, lam=self.lam, anchor=0.0, gtol=gtol, max_iter=500
        )
        output = model(self.y, self.physics)
        assert isinstance(output, Tensor)
        return output

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Arguments that all algorithms of deepinv take."""
        from deepinv.optim import L2

        settings = {
            "data_fidelity": L2(),
            "prior": self.prior(),
            "lambda_reg": self.lam,
            "g_param": self.sigma,
            "early_stop": True,
            "thres_conv": 1e-8,
        }
        return {**settings, **changes}


@dataclass(frozen=True)
class Algorithm:
    """A row of the table.

    :ivar uses: what it takes of the prior.
    :ivar run: the image it finds.
    :ivar slope: gradient of the strongly convex function it minimises, where that is not the problem's
        own: `(problem, image)` to the gradient and the modulus.
    """

    uses: str
    run: Callable[[PluginProblem], Tensor]
    slope: Callable[[PluginProblem, Tensor], tuple[Tensor, float]] | None = None
    note: str = ""

    def error(self, problem: PluginProblem, image: Tensor, minimiser: Tensor) -> float:
        """Relative distance to our minimiser, or the proven bound on that to the minimiser of the
        algorithm's own problem, `|grad| / mu`."""
        if self.slope is None:
            distance = (image - minimiser).norm()
        else:
            gradient, mu = self.slope(problem, image)
            distance = gradient.norm() / mu
        return float(distance / image.norm())


def _run(
    name: str, problem: PluginProblem, *, step: str = "data_step", iterations: int, **options: Any
) -> Tensor:
    import deepinv

    settings = problem.settings(stepsize=getattr(problem, step), max_iter=iterations, **options)
    return getattr(deepinv.optim, name)(**settings)(problem.y, problem.physics)


def _denoiser(name: str, kind: str, problem: PluginProblem) -> Tensor:
    """With one of deepinv's priors that are made from a denoiser, ours."""
    import deepinv

    from convexreg import ConvexDenoiser

    prior = getattr(deepinv.optim, kind)(ConvexDenoiser(problem.regularizer, tol=PROX_TOL))
    return _run(name, problem, prior=prior, iterations=400)


def _plug_and_play_slope(problem: PluginProblem, image: Tensor) -> tuple[Tensor, float]:
    """Of `|A x - y|^2 / 2 + R / tau`."""
    prior = problem.regularizer.grad(image, problem.sigma) / problem.data_step
    return problem.data_gradient(image) + prior, problem.mu


def _denoising_residual_slope(problem: PluginProblem, image: Tensor) -> tuple[Tensor, float]:
    """Of `|A x - y|^2 / 2` plus `lam` times the Moreau envelope of `R`."""
    residual = image - problem.prior().prox(image, problem.sigma)
    return problem.data_gradient(image) + problem.lam * residual, problem.mu


def _splitting_slope(problem: PluginProblem, image: Tensor) -> tuple[Tensor, float]:
    """Of the Moreau envelope of `|A x - y|^2 / 2` plus `lam R`, which HQS minimises (its docstring)."""
    from deepinv.optim import L2

    tau = problem.data_step
    inner = L2().prox(image, problem.y, problem.physics, gamma=tau)
    gradient = (image - inner) / tau
    gradient = gradient + problem.lam * problem.regularizer.grad(image, problem.sigma)
    return gradient, problem.mu / (1 + tau * problem.mu)


def _scaled_slope(problem: PluginProblem, image: Tensor) -> tuple[Tensor, float]:
    """Of `|A x - y|^2 / 2 + lam^2 R(x / lam)`.

    deepinv 0.5 takes `u = prox of lam s (lam R)^*` after a step of length `s`: a fixed point has
    `x / lam in d(lam R)^*(u)`, hence `u = lam grad R(x / lam)`.
    """
    lam = problem.lam
    prior = lam * problem.regularizer.grad(image / lam, problem.sigma)
    return problem.data_gradient(image) + prior, problem.mu


_PROXIMAL = ("PGD", "FISTA", "PMD", "ADMM", "DRS", "PDCP")
_FIRST = partial(_run, g_first=True)

ALGORITHMS: dict[str, Algorithm] = {
    "GD": Algorithm("grad", partial(_run, "GD", step="step", iterations=3000)),
    "GD, backtracking": Algorithm(
        "grad, fn", partial(_run, "GD", step="long_step", iterations=3000, backtracking=True)
    ),
    "MD": Algorithm("grad", partial(_run, "MD", step="step", iterations=3000)),
    **{name: Algorithm("prox", partial(_run, name, iterations=300)) for name in _PROXIMAL},
    **{
        f"{name}, prior first": Algorithm(
            "grad", partial(_FIRST, name, step="prior_step", iterations=3000)
        )
        for name in ("PGD", "FISTA")
    },
    **{
        f"{name}, prior first": Algorithm("prox", partial(_FIRST, name, iterations=300))
        for name in ("ADMM", "DRS")
    },
    "PDCP, prior first": Algorithm(
        "prox_conjugate",
        partial(_FIRST, "PDCP", iterations=300),
        _scaled_slope,
        "deepinv 0.5 scales the dual step by lam: minimises the data term plus lam^2 R(x / lam)",
    ),
    "HQS": Algorithm(
        "prox",
        partial(_run, "HQS", iterations=300),
        _splitting_slope,
        "minimises the Moreau envelope of the data term plus lam R",
    ),
    "PnP-PGD": Algorithm(
        "ConvexDenoiser",
        partial(_denoiser, "PGD", "PnP"),
        _plug_and_play_slope,
        "minimises the data term plus R / step",
    ),
    "RED-GD": Algorithm(
        "ConvexDenoiser",
        partial(_denoiser, "GD", "RED"),
        _denoising_residual_slope,
        "minimises the data term plus lam times the Moreau envelope of R",
    ),
    "ConvexReconstructor": Algorithm(
        "own solver", lambda problem: problem.reconstruction(problem.regularizer, PROX_TOL)
    ),
}
