"""What can be minimised with: our regularizers, deepinv's priors, and those that users bring."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from convexreg.networks.base import Sigma, converted
from convexreg.networks.potentials import InfimalConvolution
from convexreg.reconstruction.problem import Regularization
from convexreg.solvers.batch import of_images
from convexreg.solvers.deepinv_rules import CurvatureBounds
from convexreg.solvers.objective import Objective
from convexreg.solvers.prior_terms import PriorTerm


def as_regularization(thing: Any) -> Regularization:
    """`thing` as something that has a term for every noise level.

    Convexity and constants of what is not ours are taken on its word.

    :param thing: with `term(sigma)`; an `Objective`; a deepinv prior with `fn` and `grad` whose constants
        are known (`solvers.deepinv_rules`) or stated as its attributes `lipschitz` and
        `strong_convexity`; or an object with `energy(x, sigma)`, one number per image `(B,)`, and
        `grad(x, sigma)` in the shape of `x`, or both without `sigma`, which is `(B,)`.
    :raises TypeError: something else.
    :raises ValueError: a prior without constants, or a regularizer whose values are found by iterations.
    """
    if callable(getattr(thing, "term", None)):
        check_exact(thing)
        return thing
    if isinstance(thing, Objective):
        return _Whole(thing)
    has_gradient = callable(getattr(thing, "grad", None))
    if has_gradient and callable(getattr(thing, "energy", None)):
        return _Brought(thing)
    if has_gradient and callable(getattr(thing, "fn", None)):
        return _Prior(thing)
    raise TypeError(
        "a regularizer is the name of a shipped model, the path of a model file, a regularizer of convexreg, "
        "a deepinv prior, or an object with energy(x, sigma) and grad(x, sigma); got "
        f"{type(thing).__name__}"
    )


def check_exact(regularizer: Regularization) -> None:
    """Refuse a regularizer whose values are known from below only: a gap made of them would be too small.

    :raises ValueError: it has an infimal convolution.
    """
    parts = regularizer.modules() if isinstance(regularizer, nn.Module) else ()
    if any(isinstance(part, InfimalConvolution) for part in parts):
        name = getattr(regularizer, "name", type(regularizer).__name__)
        raise ValueError(
            f"the values of {name}, an infimal convolution, are found by iterations and known from below, "
            "which is no certificate; denoise with it by convexreg.reconstruction.latent.denoise_with_codes"
        )


class _Whole(Regularization):
    """An objective that is one term whatever the noise."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def term(self, sigma: Sigma) -> Objective:
        return self.objective


class _Prior(Regularization):
    """A prior of deepinv; `sigma` is its `g_param`."""

    def __init__(self, prior: Any) -> None:
        self.prior = prior
        self.bounds: CurvatureBounds | None = None
        if getattr(prior, "lipschitz", None) is not None:
            self.bounds = CurvatureBounds(*_constants(prior))
        self.term(None)  # says so if nothing is known

    def term(self, sigma: Sigma) -> Objective:
        return PriorTerm(self.prior, self.bounds, g_param=sigma)


class _Brought(Regularization):
    """An object with energy and gradient."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def term(self, sigma: Sigma) -> Objective:
        return _BroughtTerm(self.thing, sigma)

    def converted(self, device: torch.device, dtype: torch.dtype) -> _Brought:
        """With its tensors converted, if it has any that are known."""
        module = isinstance(self.thing, nn.Module)
        return _Brought(converted(self.thing, device, dtype)) if module else self


class _BroughtTerm(Objective):
    def __init__(self, thing: Any, sigma: Sigma) -> None:
        self.thing, self.sigma = thing, sigma
        self.constants = _constants(thing)
        self._energy, self._grad = (_given(f, sigma) for f in (thing.energy, thing.grad))

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.value(x), self.grad(x)

    def value(self, x: Tensor) -> Tensor:
        return self._as_asked("energy", self._energy(x), x.shape[:1]).double()

    def grad(self, x: Tensor) -> Tensor:
        return self._as_asked("grad", self._grad(x), x.shape)

    def _as_asked(self, method: str, result: Any, shape: torch.Size) -> Tensor:
        if isinstance(result, Tensor) and result.shape == shape:
            return result
        got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(
            f"{method} of the regularizer {type(self.thing).__name__} must return a tensor of shape "
            f"{tuple(shape)} (energy one number per image, grad the shape of the images), got {got}"
        )

    def lipschitz(self, x: Tensor) -> Tensor:
        return torch.tensor(self.constants[0], dtype=torch.float64, device=x.device)

    def strong_convexity(self, x: Tensor) -> Tensor:
        return torch.tensor(self.constants[1], dtype=torch.float64, device=x.device)

    def subset(self, index: Tensor) -> _BroughtTerm:
        sigma = self.sigma
        return _BroughtTerm(
            self.thing, of_images(sigma, index) if isinstance(sigma, Tensor) else sigma
        )


def _given(function: Callable[..., Tensor], sigma: Sigma) -> Callable[[Tensor], Tensor]:
    """The function of the image alone."""
    try:
        inspect.signature(function).bind(None, sigma)
    except (TypeError, ValueError):  # of another signature, or of none that Python knows
        return function
    return lambda x: function(x, sigma)


def _constants(thing: Any) -> tuple[float, float]:
    """Lipschitz constant of the gradient and modulus, as attributes or methods without arguments."""
    found = []
    for name, default in (("lipschitz", float("inf")), ("strong_convexity", 0.0)):
        value = getattr(thing, name, default)
        number: Any = value() if callable(value) else value
        found.append(default if number is None else float(number))
    return found[0], found[1]
