"""Denoising a colour image as problems that have nothing to do with each other.

Luminance and colour differences are orthonormal coordinates, so that data term and regularizer are sums over
them, and so is their minimum. With a gray model there is a problem for each of the three planes, with one for
colour (`ColourNetwork`) one for the luminance and one for both colour differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from convexreg.adaptive import GivenInTurn
from convexreg.networks import colour
from convexreg.networks.base import Sigma
from convexreg.networks.colour_network import ColourNetwork, Part
from convexreg.reconstruction.colour_noise import Planes
from convexreg.reconstruction.problem import Problem, Regularization, proximal_problem
from convexreg.regularizer import Regularizer
from convexreg.solvers.certificates import Certificate
from convexreg.solvers.data_terms import LeastSquares, WeightedLeastSquares
from convexreg.solvers.objective import Objective
from convexreg.solvers.solution import Solution, Status

_SEVERITY = (
    Status.CONVERGED,
    Status.STAGNATED,
    Status.MAX_ITERATIONS,
    Status.TIME_LIMIT,
    Status.BOUND_VIOLATED,
    Status.NOT_FINITE,
)


@dataclass(frozen=True)
class Subproblem:
    """`G` on some planes of colour images, as images `z = planes / contrast` of their own.

    The problem of the colour images is the sum of `(contrast / ratio)^2 G(z)` over its subproblems, where
    `ratio` is that of the noise level of the planes to the level of the problem.

    :ivar planes: which ones.
    :ivar single: each an image, rather than a channel of one.
    :ivar regularizer: makes that of some of the images, where there is not room for that of all.
    """

    problem: Problem
    planes: slice
    single: bool
    contrast: float = 1.0
    ratio: float = 1.0
    regularizer: Callable[[Tensor], Regularization] | None = None

    def of(self, x: Tensor) -> Tensor:
        """Its images of colour images."""
        planes = colour.in_planes(x)[:, self.planes] / self.contrast
        return planes.flatten(0, 1).unsqueeze(1) if self.single else planes

    def alone(self, index: Tensor) -> Problem:
        """The problem of one of its images.

        :param index: its number, `(1,)` integers.
        """
        if self.regularizer is None:
            return self.problem.subset(index)
        return replace(self.problem, regularizer=self.regularizer(index)).subset(index)

    def posed(
        self, y: Tensor, regularizer: Regularization, sigma: Sigma, lam: Tensor | float
    ) -> Subproblem:
        """With the problem of its own images, of the noisy images `y`, in the place of that of the whole."""
        whole = self.problem
        own = proximal_problem(self.of(y), regularizer, sigma, lam)
        centre = None if whole.anchor == 0 or whole.centre is None else self.of(whole.centre)
        return replace(
            self, problem=replace(own, anchor=self.ratio**2 * whole.anchor, centre=centre)
        )

    def back(self, z: Tensor) -> Tensor:
        """Its planes `(B, planes, H, W)` again."""
        return self.contrast * (z.reshape(-1, self._count, *z.shape[2:]) if self.single else z)

    def sum(self, value: Tensor) -> Tensor:
        """Of values of `G`, one per colour image."""
        return (self.contrast / self.ratio) ** 2 * self._rows(value).sum(1)

    def _rows(self, value: Tensor) -> Tensor:
        return value.reshape(-1, self._count if self.single else 1)

    def largest(self, value: Tensor) -> Tensor:
        """Over the images of every colour image."""
        return self._rows(value).amax(1)

    def norm(self, length: Tensor) -> Tensor:
        """The length of the planes, from that of `z`."""
        return self.contrast * self._rows(length).norm(dim=1)

    def rms(self, value: Tensor) -> Tensor:
        """Over all planes, those of others zero, from that of the gradient of `G`."""
        return self.contrast / self.ratio**2 * self.share(value.square()).sqrt()

    def share(self, value: Tensor) -> Tensor:
        """The mean over all planes, those of others zero."""
        return self._rows(value).mean(1) * self._count / 3

    @property
    def _count(self) -> int:
        return self.planes.stop - self.planes.start


def subproblems(problem: Problem, start: Tensor) -> list[Subproblem]:
    """Those the problem is a sum of: images seen as they are, without a box. Else none."""
    data, regularizer = problem.data, problem.regularizer
    y = _images(data)
    if y is None or start.shape[1:2] != (3,) or not problem.box.everything:
        return []
    whole, in_turn = regularizer, None
    if isinstance(regularizer, GivenInTurn):
        whole, in_turn = regularizer.model.second, regularizer
    if not isinstance(whole, Regularizer):
        return []
    if isinstance(whole.network, ColourNetwork):
        return [
            _of_part(problem, y, part, whole.of_part(part), in_turn) for part in whole.network.parts
        ]
    return [_of_planes(problem, y, whole.of_planes(), in_turn)] if whole.in_channels == 1 else []


def _images(data: Objective) -> Tensor | None:
    """The noisy images, if that is what is measured."""
    if isinstance(data, LeastSquares) and data.sees_images:
        return data.y
    if isinstance(data, WeightedLeastSquares) and isinstance(data.operator, Planes):
        return data.operator.A_adjoint(data.y)
    return None


def _of_part(
    problem: Problem, y: Tensor, part: Part, regularizer: Regularizer, in_turn: GivenInTurn | None
) -> Subproblem:
    make = None if in_turn is None else partial(in_turn.part, part)
    own = Subproblem(problem, part.planes, False, part.contrast, part.ratio, make)
    return own.posed(y, regularizer, part.level(problem.sigma), problem.lam)


def _of_planes(
    problem: Problem, y: Tensor, regularizer: Regularizer, in_turn: GivenInTurn | None
) -> Subproblem:
    """Every plane is an image."""
    lam = torch.as_tensor(problem.lam, dtype=torch.float64, device=y.device)
    lam = colour.weighted(lam.expand(y.shape[0]).repeat_interleave(3))
    own = Subproblem(
        problem, slice(0, 3), True, regularizer=None if in_turn is None else in_turn.plane
    )
    return own.posed(y, regularizer, colour.per_plane(problem.sigma), lam)


def image_of(problems: Sequence[Subproblem], points: Sequence[Tensor]) -> Tensor:
    """The colour images of the images of all subproblems."""
    planes = [part.back(z) for part, z in zip(problems, points, strict=True)]
    return colour.in_colour(torch.cat(planes, 1) if len(planes) > 1 else planes[0])


def joined(solutions: Sequence[Solution]) -> Solution:
    """Those of images that were solved one by one."""

    def of_all(of: Callable[[Solution], Tensor]) -> Tensor:
        return torch.cat([of(solution) for solution in solutions])

    gap, lower, distance = (
        of_all(lambda s, name=name: getattr(s.certificate, name))
        for name in ("gap", "lower", "distance")
    )
    supports = [s.support for s in solutions if s.support is not None]
    return Solution(
        of_all(lambda s: s.x),
        of_all(lambda s: s.status),
        of_all(lambda s: s.iterations),
        of_all(lambda s: s.evaluations),
        Certificate(gap, lower, distance, solutions[0].certificate.dtype),
        of_all(lambda s: s.stationarity),
        sum(solution.seconds for solution in solutions),
        torch.cat(supports) if len(supports) == len(solutions) else None,
    )


def merged(problems: Sequence[Subproblem], solutions: Sequence[Solution]) -> Solution:
    """That of the colour images: bounds add up, evaluations are the mean over the planes, the worst status.

    Without all of them its images and the support of its bound are those of the last one.
    """
    pairs = list(zip(problems, solutions, strict=True))

    def total(of: Callable[[Subproblem, Solution], Tensor]) -> Tensor:
        return torch.stack([of(part, solution) for part, solution in pairs]).sum(0)

    def norm(of: Callable[[Subproblem, Solution], Tensor]) -> Tensor:
        return torch.stack([of(part, solution) for part, solution in pairs]).norm(dim=0)

    severity = [part.largest(_severities(solution.status)) for part, solution in pairs]
    codes = torch.tensor([int(status) for status in _SEVERITY], device=severity[0].device)
    iterations = [part.largest(solution.iterations) for part, solution in pairs]
    whole = problems[0].planes.start == 0 and problems[-1].planes.stop == 3
    supports = [solution.support for solution in solutions if solution.support is not None]
    certificate = Certificate(
        total(lambda part, s: part.sum(s.certificate.gap)),
        total(lambda part, s: part.sum(s.certificate.lower)),
        norm(lambda part, s: part.norm(s.certificate.distance)),
        solutions[0].certificate.dtype,
    )
    return Solution(
        image_of(problems, [s.x for s in solutions]) if whole else solutions[-1].x,
        codes[torch.stack(severity).amax(0)],
        torch.stack(iterations).amax(0),
        total(lambda part, s: part.share(s.evaluations)),
        certificate,
        norm(lambda part, s: part.rms(s.stationarity)),
        sum(solution.seconds for solution in solutions),
        image_of(problems, supports) if whole and len(supports) == len(solutions) else None,
    )


def _severities(status: Tensor) -> Tensor:
    places = [_SEVERITY.index(Status(int(code))) for code in status]
    return torch.tensor(places, device=status.device)
