"""Training objectives: what a regularizer should be good at.

All three compare a denoised patch with the clean one by its mean squared error, transformed so that
every noise level counts alike (`patch_loss`). They differ in what "denoised" means.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from convexreg.adaptive import AdaptiveRegularizer, rounds
from convexreg.networks.colour import in_planes
from convexreg.networks.colour_network import ColourNetwork
from convexreg.reconstruction import planes
from convexreg.reconstruction.defaults import FIRST_ROUND, Tolerance
from convexreg.reconstruction.problem import proximal_problem
from convexreg.reconstruction.start import denoised
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers.batch import per_image
from convexreg.solvers.implicit import ImplicitSolution

_TYPICAL_ERROR, _TYPICAL_EXPONENT = 10**-2.86, 1.23
"""Mean squared error that convex models leave at 25/255 on photographs, and how it grows with the noise
level (28.6 dB, and 37.4 to 25.1 dB from 5 to 50/255)."""


def patch_loss(error: Tensor, sigma: Tensor, emphasis: float) -> Tensor:
    """Mean over patches of `(r^p - 1) / p` with `r` the squared error relative to a typical one, 0-dim.

    The transform of Box & Cox (1964). `p = 0` is its limit `log r`: mean PSNR, to which every patch adds
    alike. The larger `p`, the more the patches count that are hard for their noise level, textured ones,
    which make up most of the error of a whole image; `p = 1` is the squared error.

    :param error: mean squared error of each patch, `(B,)`.
    :param sigma: noise levels, `(B,)`.
    :param emphasis: the exponent `p`.
    """
    typical = _TYPICAL_ERROR * (255 * sigma / 25) ** _TYPICAL_EXPONENT
    relative = (error.clamp_min(1e-12) / typical).log()
    if emphasis == 0:
        return relative.mean()
    return (torch.expm1(emphasis * relative) / emphasis).mean()


def trained(regularizer: ConvexRegularizer) -> ConvexRegularizer:
    """What is trained of a regularizer: all of it, or the part for the colour differences.

    The luminance is that of a gray model, which is trained on gray images.
    """
    network = regularizer.network
    if not isinstance(network, ColourNetwork):
        return regularizer
    return regularizer.of_part(network.parts[1])


@dataclass(frozen=True)
class Denoised:
    """The result of one round."""

    image: Tensor


class TrainingObjective(ABC):
    """A way to denoise that can be differentiated in the regularizer's parameters.

    :param settings: the numbers it depends on, by name: a resumed run must have the same.
    """

    def __init__(self, settings: Mapping[str, float] | None = None) -> None:
        self.settings = dict(settings or {})
        self.diagnostics: dict[str, float] = {}
        """Figures of the last forward and backward pass, for the log."""

    @abstractmethod
    def denoise(
        self, regularizer: ConvexRegularizer, noisy: Tensor, sigma: Tensor, start: Tensor
    ) -> Tensor:
        """Denoised patches, differentiable in the parameters; iterations begin at `start`."""

    def loss(
        self,
        model: ConvexRegularizer | AdaptiveRegularizer,
        clean: Tensor,
        noisy: Tensor,
        sigma: Tensor,
        *,
        emphasis: float = 0.0,
    ) -> Tensor:
        """`patch_loss` over the batch, 0-dim.

        The last round of an adaptive regularizer is differentiated; the reconstruction before it is
        taken as given: the weights depend on the parameters through what is made of it only. Of a model
        for colour images it is the loss of the two colour differences, see `trained`.
        """

        begin = denoised(noisy, sigma)
        regularizer: ConvexRegularizer
        if isinstance(model, AdaptiveRegularizer):

            def solve(convex: ConvexRegularizer, start: Tensor, is_last: bool) -> Denoised:
                del is_last  # of those before the one that is trained
                problem = proximal_problem(noisy, convex, sigma)
                return Denoised(planes.minimise(problem, start, tolerance=FIRST_ROUND)[0].x)

            begin = rounds(model.first, solve, begin, sigma)[-1].image
            network = model.second.network
            if isinstance(network, ColourNetwork):
                regularizer = model.given_part(begin, sigma, network.parts[1])
            else:
                regularizer = model.given(begin, sigma)
        else:
            regularizer = trained(model)
        if noisy.shape[1] == 3:
            clean, noisy, begin = (in_planes(images)[:, 1:] for images in (clean, noisy, begin))
        restored = self.denoise(regularizer, noisy, sigma, begin)
        return patch_loss((restored - clean).flatten(1).square().mean(1), sigma, emphasis)

    def after_backward(self) -> None:  # noqa: B027 - most objectives have nothing to add
        """Complete the diagnostics with those of the backward pass."""


class Score(TrainingObjective):
    """Denoising score matching (Vincent 2011): the gradient itself removes the noise.

    `y - grad R(y; sigma)` should be the clean image, so that `-grad R / sigma^2` is the score of
    the noisy images. One gradient a step: the cheapest start.
    """

    def denoise(
        self, regularizer: ConvexRegularizer, noisy: Tensor, sigma: Tensor, start: Tensor
    ) -> Tensor:
        return noisy - regularizer.grad(noisy, sigma)


class Unrolled(TrainingObjective):
    """`t` accelerated gradient steps on `|x - y|^2 / 2 + R(x; sigma)`, with the proven step.

    The recipe of CRR-NN (Goujon et al. 2023, section V), but with momentum and from `start`: with
    `q = 1 / (1 + L)` the problem is `q`-conditioned and the momentum is `(1 - sqrt q) / (1 + sqrt q)`.
    The step depends on the parameters through the bound `L` and is differentiated as well.
    """

    def __init__(self, steps: int = 12) -> None:
        super().__init__({"unrolled steps": steps})
        if steps < 1:
            raise ValueError(f"unrolling needs at least one step, got {steps}")
        self.steps = steps

    def denoise(
        self, regularizer: ConvexRegularizer, noisy: Tensor, sigma: Tensor, start: Tensor
    ) -> Tensor:
        lipschitz = 1 + regularizer.lipschitz(sigma=sigma)
        root = lipschitz.rsqrt()
        step = per_image(1 / lipschitz, noisy)
        beta = per_image((1 - root) / (1 + root), noisy)
        x = y = start
        for _ in range(self.steps):
            following = y - step * (y - noisy + regularizer.grad(y, sigma))
            y = following + beta * (following - x)
            x = following
        return x


@dataclass(frozen=True)
class Accuracy:
    """How exactly the equilibrium objective solves its two problems.

    :ivar gap: certified relative gap of the forward solve.
    :ivar backward: relative residual of the linear system of the backward pass.
    """

    gap: float = 5e-3
    backward: float = 3e-1
    max_iter: int = 60


class Equilibrium(TrainingObjective):
    """The exact minimiser of `|x - y|^2 / 2 + R(x; sigma)`, differentiated through its optimality condition.

    Forward: quasi-Newton to a certified gap. Backward: preconditioned conjugate gradients on the
    Hessian, which is at least the identity (`solvers.implicit`). The memory is that of one gradient.
    """

    def __init__(self, accuracy: Accuracy | None = None) -> None:
        self.accuracy = accuracy or Accuracy()
        super().__init__(asdict(self.accuracy))

    def denoise(
        self, regularizer: ConvexRegularizer, noisy: Tensor, sigma: Tensor, start: Tensor
    ) -> Tensor:
        problem = proximal_problem(noisy, regularizer, sigma)
        solution = problem.minimise(
            start, tolerance=Tolerance(self.accuracy.gap), max_iter=self.accuracy.max_iter
        )
        self._implicit = ImplicitSolution(tol=self.accuracy.backward)
        restored = problem.differentiable(solution.x, self._implicit)
        self.diagnostics = {
            "forward_evaluations": float(solution.evaluations.max()),
            "forward_relative_gap": float(solution.certificate.relative_gap.max()),
        }
        return restored

    def after_backward(self) -> None:
        residual = self._implicit.residual
        if residual is not None:
            self.diagnostics["backward_iterations"] = float(self._implicit.iterations)
            self.diagnostics["backward_residual"] = float(residual.max())
