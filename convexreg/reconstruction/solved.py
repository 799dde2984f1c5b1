"""A solution of a problem and its certificate in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from convexreg.reconstruction.problem import Problem
from convexreg.solvers.certificates import certify
from convexreg.solvers.operators import PrecisionError
from convexreg.solvers.solution import Solution


@dataclass(frozen=True)
class Solved:
    """A solution as it is certified.

    :ivar remark: why not in float64, if that was asked for and not possible.
    :ivar lipschitz: proven constant of the gradient of what was minimised, `(B,)`.
    """

    solution: Solution
    remark: str
    lipschitz: Tensor


def certified(problem: Problem, solution: Solution, *, in_float64: bool) -> Solved:
    """With the certificate in float64, free of the rounding of a float32 solve, if it is asked for; or as it
    is and why that was not possible."""
    if not in_float64 or solution.x.dtype == torch.float64:
        return Solved(solution, "", _lipschitz(problem, solution.x))
    try:
        exact = problem.exact(solution.x)
    except PrecisionError as error:
        dtype = str(solution.x.dtype).removeprefix("torch.")
        remark = f"certified in {dtype} only: {error}"
        return Solved(solution, remark, _lipschitz(problem, solution.x))
    point = solution.x.double()
    exact.objective.check(point)
    support = None if solution.support is None else solution.support.double()
    certificate = certify(exact.objective, point, problem.box, support=support)
    return Solved(replace(solution, certificate=certificate), "", _lipschitz(exact, point))


def _lipschitz(problem: Problem, x: Tensor) -> Tensor:
    return problem.objective.lipschitz(x).expand(x.shape[0])
