"""Provably convergent solvers for smooth convex problems on batches of images."""

from .box import Box
from .certificates import Certificate, certify
from .data_terms import LeastSquares, Proximity
from .fidelities import PoissonLikelihood, SmoothedL1, data_term
from .fista import FISTA
from .free_fista import FreeFISTA
from .gradient_descent import GradientDescent
from .implicit import ImplicitSolution, conjugate_gradient
from .langevin import Moments, sample_moments
from .loop import Progress, Solver, State, minimise
from .objective import Objective, Sum
from .ogm_g import OGMG
from .physics_norms import OperatorBounds, operator_bounds
from .prior_terms import PriorTerm, SlopeBounds
from .proximal_step import Backtracking
from .quasi_newton import QuasiNewton
from .solution import Solution, SolverError, Status

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
