"""What is known of deepinv's noise models, fidelities and priors; of its operators see `operator_rules`.

Rules go by exact type, because a subclass may change what it inherits. A class becomes known by a row
of the tables at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .batch import per_image
from .data_terms import DataTerm, LeastSquares
from .likelihoods import PoissonLikelihood, SmoothedL1
from .operator_rules import operator_bounds, rule_of
from .operators import LinearOperator, OperatorBounds

L1_SMOOTHING = 1e-3


@dataclass(frozen=True)
class CurvatureBounds:
    """What is proven of a prior's second derivative.

    :ivar lipschitz: upper bound on the Lipschitz constant of the gradient.
    :ivar strong_convexity: lower bound on the modulus.
    """

    lipschitz: float
    strong_convexity: float = 0.0


def noise_level(physics: Any) -> Tensor | float | None:
    """The standard deviation of a physics' noise where that is all there is to say of it, else `None`."""
    model = getattr(physics, "noise_model", None)
    rule = rule_of(NOISE_LEVELS, model)
    return None if rule is None else rule(model)


def noise_variance(physics: Any, mean: Tensor, photons: float = 0.0) -> Tensor | None:
    """The variance of measurements with a `mean` `(B, ...)`, of noise that depends on it, else `None`.

    :param photons: added to the mean, so that where none was seen there is a variance.
    """
    model = getattr(physics, "noise_model", None)
    rule = rule_of(NOISE_VARIANCES, model)
    return None if rule is None else rule(model, mean, photons)


def data_term(physics: LinearOperator, y: Tensor, fidelity: Any = None) -> DataTerm:
    """`D(A x, y)` of a deepinv data fidelity, `|A x - y|^2 / 2` without one.

    `L2` is `|A x - y|^2 / (2 sigma^2)`; `PoissonLikelihood` needs a positive background; `L1` is smoothed
    with `delta = 1e-3`.

    :raises ValueError: a fidelity that is not convex, not smooth, or not known here.
    """
    bounds = operator_bounds(physics, physics.A_adjoint(y))
    if fidelity is None:
        return LeastSquares(physics, y, bounds)
    rule = rule_of(FIDELITIES, fidelity)
    if rule is None:
        raise ValueError(
            f"the fidelity {type(fidelity).__name__} is not known to be convex and smooth, so nothing could "
            "be proven; known: L2, PoissonLikelihood (with a background) and L1 (smoothed)"
        )
    return rule(fidelity, physics, y, bounds)


def prior_bounds(prior: Any, x: Tensor) -> CurvatureBounds | None:
    """The constants of a prior on images shaped like `x`, `None` where none are known."""
    rule = rule_of(PRIORS, prior)
    return None if rule is None else rule(prior, x)


def _l2(fidelity: Any, physics: LinearOperator, y: Tensor, bounds: OperatorBounds) -> DataTerm:
    return LeastSquares(physics, y, bounds, sigma=float(fidelity.d.norm) ** -0.5)


def _poisson(fidelity: Any, physics: LinearOperator, y: Tensor, bounds: OperatorBounds) -> DataTerm:
    counts = y / fidelity.gain if fidelity.d.denormalize else y
    return PoissonLikelihood(physics, counts, bounds, gain=fidelity.gain, background=fidelity.bkg)


def _l1(fidelity: Any, physics: LinearOperator, y: Tensor, bounds: OperatorBounds) -> DataTerm:
    return SmoothedL1(physics, y, bounds, delta=L1_SMOOTHING)


def _tikhonov(prior: Any, x: Tensor) -> CurvatureBounds:
    """`|x|^2 / 2`."""
    return CurvatureBounds(1.0, 1.0)


def _smoothed_total_variation(prior: Any, x: Tensor) -> CurvatureBounds:
    """`sum sqrt(|D x|^2 + eps^2)` has curvature at most `|D|^2 / eps`, `|D|^2 <= 8` on images, 12 on volumes.

    Forward differences have `|D_i|^2 <= 4` in each direction (Chambolle 2004, Thm 3.1). The prior's own
    inner step assumes `|D|^2 = 4`.
    """
    return CurvatureBounds(4 * (x.ndim - 2) / prior.eps)


def _photons(model: Any, mean: Tensor, photons: float) -> Tensor:
    gain = per_image(model.gain.to(mean), mean)
    return gain * (mean.clamp_min(0) + photons * gain)


def _poisson_noise(model: Any, mean: Tensor, photons: float) -> Tensor | None:
    """Counts that are not multiplied by the gain again are no measurements `A x` with noise."""
    return _photons(model, mean, photons) if bool(model.normalize) else None


def _poisson_gaussian(model: Any, mean: Tensor, photons: float) -> Tensor:
    read_out = per_image(model.sigma.to(mean), mean)
    return _photons(model, mean, photons) + read_out.square()


def _gaussian(model: Any) -> Tensor | float:
    """That of a physics with complex tensors has been made complex with them."""
    return model.sigma.real


NOISE_LEVELS: dict[str, Callable[[Any], Tensor | float]] = {
    "deepinv.physics.noise.GaussianNoise": _gaussian,
}
NOISE_VARIANCES: dict[str, Callable[[Any, Tensor, float], Tensor | None]] = {
    "deepinv.physics.noise.PoissonNoise": _poisson_noise,
    "deepinv.physics.noise.PoissonGaussianNoise": _poisson_gaussian,
}
FIDELITIES: dict[str, Callable[[Any, LinearOperator, Tensor, OperatorBounds], DataTerm]] = {
    "deepinv.optim.data_fidelity.L2": _l2,
    "deepinv.optim.data_fidelity.PoissonLikelihood": _poisson,
    "deepinv.optim.data_fidelity.L1": _l1,
}
PRIORS: dict[str, Callable[[Any, Tensor], CurvatureBounds]] = {
    "deepinv.optim.prior.Tikhonov": _tikhonov,
    "deepinv.optim.prior.SmoothedTVPrior": _smoothed_total_variation,
}
