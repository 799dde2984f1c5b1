"""Provably convergent solvers for smooth convex problems on batches of images."""

from .box import Box
from .certificates import Certificate, certify
from .curvature import Curvature
from .data_terms import LeastSquares, WeightedLeastSquares
from .deepinv_rules import CurvatureBounds, data_term
from .fista import FISTA
from .free_fista import FreeFISTA
from .gradient_descent import GradientDescent
from .history import History, Track
from .implicit import ImplicitSolution, conjugate_gradient
from .langevin import sample_moments
from .likelihoods import PoissonLikelihood, SmoothedL1
from .loop import minimise
from .moments import Moments
from .objective import Objective, Sum
from .ogm_g import OGMG
from .operator_rules import operator_bounds
from .operators import Identity, LinearOperator, OperatorBounds, PrecisionError
from .prior_terms import PriorTerm
from .progress import Progress
from .proximal_step import Backtracking
from .proximity import Proximity
from .quasi_newton import QuasiNewton
from .solution import Solution, SolverError, Status
from .solver import Solver, State

__all__ = [
    "FISTA",
    "OGMG",
    "Backtracking",
    "Box",
    "Certificate",
    "Curvature",
    "CurvatureBounds",
    "FreeFISTA",
    "GradientDescent",
    "History",
    "Identity",
    "ImplicitSolution",
    "LeastSquares",
    "LinearOperator",
    "Moments",
    "Objective",
    "OperatorBounds",
    "PoissonLikelihood",
    "PrecisionError",
    "PriorTerm",
    "Progress",
    "Proximity",
    "QuasiNewton",
    "SmoothedL1",
    "Solution",
    "Solver",
    "SolverError",
    "State",
    "Status",
    "Sum",
    "Track",
    "WeightedLeastSquares",
    "certify",
    "conjugate_gradient",
    "data_term",
    "minimise",
    "operator_bounds",
    "sample_moments",
]
