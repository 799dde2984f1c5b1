"""What a reconstruction returns: the image, and what is proven of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from convexreg.reconstruction.noise_gain import NoiseGain
from convexreg.reconstruction.problem import Problem
from convexreg.solvers.certificates import Certificate
from convexreg.solvers.history import History
from convexreg.solvers.solution import Solution, Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ImageLayout(Protocol):
    """How the images of a physics are the planes that a problem is about (`reconstruction.arrangement`)."""

    def planes(self, image: Tensor) -> Tensor:
        """Of an image, `(B, planes, H, W)`."""
        ...

    def image(self, x: Tensor) -> Tensor:
        """The inverse."""
        ...


@dataclass(frozen=True, repr=False)
class Reconstruction:
    """A minimiser of `D(A x, y) + lam R(x; sigma) + anchor |x - x0|^2 / 2`, and what is proven.

    Per-image tensors have shape `(B,)`.

    :ivar image: as the physics has it, usually `(B, C, H, W)`, in the dtype of the measurements.
    :ivar status: `solvers.Status` codes.
    :ivar certificate: at `image`: `gap` bounds how far the objective is above its minimum,
        `relative_gap` the same relative to the minimum, `distance` (with a strongly convex objective)
        the 2-norm to the minimiser. Infinite where nothing is proven. `dtype` says in which precision
        it was evaluated: float64, unless `remark` says why that was not possible; in a round before the
        last, that of the solve.
    :ivar iterations, evaluations: steps and gradient evaluations.
    :ivar stationarity: rms of the gradient (of the projected gradient with a box).
    :ivar problem: what was minimised; of complex images and volumes a problem of their planes.
    :ivar method: solver, and where its step size comes from.
    :ivar seconds: wall time of this solve.
    :ivar remark: what has to be known about the result; empty when there is nothing.
    :ivar gain: what the weight was chosen by, with `lam="auto"` and a regularizer of ours.
    :ivar preliminary: the solve that found the centre of the anchor, where one did; what it has spent is
        included.
    :ivar first: with an adaptive regularizer the round before, whose image decided the weights and is
        the centre of the anchor here; what is proven holds given that image.
    :ivar layout: how the image is the planes of the problem, where it is not them.
    :ivar history: the certified gap after every iteration of every solve, the first ones included; of the
        last round only.
    """

    image: Tensor
    status: Tensor
    certificate: Certificate
    iterations: Tensor
    evaluations: Tensor
    stationarity: Tensor
    problem: Problem
    method: str
    seconds: float
    remark: str = ""
    gain: NoiseGain | None = None
    preliminary: Solution | None = None
    first: Reconstruction | None = None
    layout: ImageLayout | None = None
    history: History = field(default_factory=History)

    @classmethod
    def of(
        cls,
        problem: Problem,
        solution: Solution,
        gap_tol: float | None,
        gtol: float | None,
        method: str,
        remark: str,
    ) -> Reconstruction:
        """A solution with what is to be known about it.

        An image that the solver took for converged and whose certificate misses `gap_tol` has
        stagnated.
        """
        certificate, status = solution.certificate, solution.status
        if gap_tol is not None:
            kept = certificate.relative_gap <= gap_tol
            if gtol is not None:
                kept |= solution.stationarity <= gtol
            unproven = (status == Status.CONVERGED) & ~kept
            status = torch.where(unproven, int(Status.STAGNATED), status)
        return cls(
            image=solution.x,
            status=status,
            certificate=certificate,
            iterations=solution.iterations,
            evaluations=solution.evaluations,
            stationarity=solution.stationarity,
            problem=problem,
            method=method,
            seconds=solution.seconds,
            remark=remark,
        )

    def including(self, before: Solution) -> Reconstruction:
        """The same result with the solve before it, and what that has spent."""
        return replace(
            self,
            preliminary=before,
            iterations=self.iterations + before.iterations,
            evaluations=self.evaluations + before.evaluations,
            seconds=self.seconds + before.seconds,
        )

    def arranged(self, layout: ImageLayout) -> Reconstruction:
        """The same result, its images laid out from their planes."""
        first = None if self.first is None else self.first.arranged(layout)
        return replace(self, image=layout.image(self.image), first=first, layout=layout)

    def differentiable(self) -> Tensor:
        """The image with the derivatives of the exact minimiser, after one Newton step; without any where
        nothing is being differentiated."""
        if not torch.is_grad_enabled() or not self.problem.inputs:
            return self.image
        x = self.image if self.layout is None else self.layout.planes(self.image)
        x = self.problem.differentiable(self.problem.refined(x))
        return x if self.layout is None else self.layout.image(x)

    @property
    def lam(self) -> Tensor:
        """The weight of the regularizer, `(B,)` in float64."""
        lam = torch.as_tensor(self.problem.lam, dtype=torch.float64, device=self.status.device)
        return lam.expand(self.status.shape[0])

    @property
    def sigma(self) -> Tensor:
        """The noise level, `(B,)` in float64; where it varies the root of the mean of the variances."""
        sigma = torch.as_tensor(self.problem.sigma, dtype=torch.float64, device=self.status.device)
        return sigma.reshape(-1).expand(self.status.shape[0])

    @property
    def anchor(self) -> float:
        """The weight of the anchor, zero where there is none."""
        return self.problem.anchor

    @property
    def converged(self) -> bool:
        """Whether every image reached the tolerance; of an adaptive regularizer that of the last round."""
        return bool((self.status == Status.CONVERGED).all())

    @property
    def rounds(self) -> tuple[Reconstruction, ...]:
        """The results of all rounds, this one last."""
        return (*(() if self.first is None else self.first.rounds), self)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw how the certified gap fell, see `History.plot`: one line per solve and image.

        An adaptive model solves in every round, and off denoising the last round begins with the solve for
        the centre of the anchor.

        :param axes: of matplotlib, to draw into; those of a new figure by default.
        """
        return self.history.plot(axes)

    def summary(self, *, sigma: bool = True) -> str:
        """One line per image and round: status, certificate, iterations, and the noise level `sigma`."""
        lines = self._lines(sigma)
        if self.first is not None:
            rounds = [result._lines(sigma) for result in self.rounds]
            lines = [
                f"round {number}: {line}"
                for of_image in zip(*rounds, strict=True)
                for number, line in enumerate(of_image)
            ]
        return "\n".join([*lines, self.remark] if self.remark else lines)

    def _lines(self, sigma: bool) -> list[str]:
        lines = []
        for index in range(len(self.status)):
            status = Status(int(self.status[index]))
            relative = float(self.certificate.relative_gap[index])
            gap = float(self.certificate.gap[index])
            if relative < float("inf"):
                proven = f"certified relative gap {relative:.1e}"
            elif gap < float("inf"):  # the minimum may be zero
                proven = f"certified gap {gap:.1e}"
            else:
                proven = f"no certificate (gradient rms {float(self.stationarity[index]):.1e})"
            level = f", sigma {float(self.sigma[index]):.3g}" if sigma else ""
            number = f"image {index}: " if len(self.status) > 1 else ""
            lines.append(
                f"{number}{status.name.lower().replace('_', ' ')} after {int(self.iterations[index])} "
                f"iterations: {proven}{level}{self._chosen(index)}"
            )
        return lines

    def _chosen(self, index: int) -> str:
        """The weight and what it was chosen by, where that is not the noise level alone."""
        lam = float(self.lam[index])
        return "" if self.gain is None or lam == 1 else f"; lam {lam:.3g}, {self.gain.text(index)}"

    def __repr__(self) -> str:
        return f"Reconstruction of {tuple(self.image.shape)} by {self.method}:\n{self.summary()}"
