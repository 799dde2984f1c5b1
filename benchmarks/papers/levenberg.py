"""Least-squares training to convergence."""

from __future__ import annotations

from typing import Any

import numpy
import torch
from scipy.optimize import least_squares
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.utils import parameters_to_vector

from benchmarks.papers.ensemble import Ensemble


@torch.no_grad()
def refine(ensemble: Ensemble, x: Tensor, target: Tensor, *, iterations: int) -> None:
    """Minimise `|g(x) - target|^2` over the parameters of every trial, in place, starting from them.

    By SciPy's Levenberg-Marquardt (MINPACK) in float64. For networks of a hundred parameters an iteration
    costs about as much as fifty steps of Adam and does what thousands of them do not.

    :param x: points `(T, N, n)`; `target` has the same shape.
    """
    for trial, data in enumerate(zip(x.double(), target.double(), strict=True)):
        found = _refined(ensemble.member(trial).double(), *data, iterations)
        for name, parameter in ensemble.parameters.items():
            parameter[trial] = found[name]


def _refined(network: nn.Module, x: Tensor, target: Tensor, iterations: int) -> dict[str, Tensor]:
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]

    def parameters(flat: Tensor) -> dict[str, Tensor]:
        pieces = zip(shapes.items(), flat.split(sizes), strict=True)
        return {name: piece.reshape(shape) for (name, shape), piece in pieces}

    def output(flat: Tensor, point: Tensor) -> Tensor:
        return functional_call(network, parameters(flat), (point.unsqueeze(0),))[0]

    def residuals(flat: numpy.ndarray) -> numpy.ndarray:
        return (
            (functional_call(network, parameters(torch.from_numpy(flat)), (x,)) - target)
            .flatten()
            .numpy()
        )

    def jacobians(flat: numpy.ndarray) -> numpy.ndarray:
        return vmap(jacrev(output), (None, 0))(torch.from_numpy(flat), x).flatten(0, 1).numpy()

    derivatives: Any = jacobians
    start = parameters_to_vector(network.parameters()).numpy()
    found = least_squares(residuals, start, jac=derivatives, method="lm", max_nfev=iterations)
    return parameters(torch.from_numpy(found.x))
