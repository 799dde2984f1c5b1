"""Provably convergent solvers for smooth convex problems on batches of images."""

from solvers.box import Box
from solvers.certificates import Certificate, certify
from solvers.data_terms import LeastSquares, Proximity
from solvers.fidelities import PoissonLikelihood, SmoothedL1, data_term
from solvers.fista import FISTA
from solvers.free_fista import FreeFISTA
from solvers.gradient_descent import GradientDescent
from solvers.implicit import ImplicitSolution, conjugate_gradient
from solvers.langevin import Moments, sample_moments
from solvers.loop import Progress, Solver, State, minimise
from solvers.objective import Objective, Sum
from solvers.ogm_g import OGMG
from solvers.physics_norms import OperatorBounds, operator_bounds
from solvers.prior_terms import PriorTerm, SlopeBounds
from solvers.proximal_step import Backtracking
from solvers.quasi_newton import QuasiNewton
from solvers.solution import Solution, SolverError, Status

__all__ = [
    "FISTA",
    "OGMG",
    "Backtracking",
    "Box",
    "Certificate",
    "FreeFISTA",
    "GradientDescent",
    "ImplicitSolution",
    "LeastSquares",
    "Moments",
    "Objective",
    "OperatorBounds",
    "PoissonLikelihood",
    "PriorTerm",
    "Progress",
    "Proximity",
    "QuasiNewton",
    "SlopeBounds",
    "SmoothedL1",
    "Solution",
    "Solver",
    "SolverError",
    "State",
    "Status",
    "Sum",
    "certify",
    "conjugate_gradient",
    "data_term",
    "minimise",
    "operator_bounds",
    "sample_moments",
]
