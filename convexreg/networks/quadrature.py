"""Integrals of scalar functions without a closed-form antiderivative."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import torch
from torch import Tensor

_NODES = 16
_MAX_PANELS = 64


def line_integral(function: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """`int_0^u f(v) dv` for an elementwise `f`, in the shape of `u`.

    Composite Gauss-Legendre quadrature with 16 nodes a panel after the substitution `v = u s^3`:
    activations vary near zero and flatten out far from it, and equal panels in `v` would be needed
    in proportion to `|u|`. The panels are doubled until two results agree to `200 eps` of the dtype
    (2.4e-5 in float32, 4.4e-14 in float64), relative to the larger of the integral and one.

    :raises ArithmeticError: 64 panels do not reach that (the function is not smooth enough).
    """
    tolerance = 200 * torch.finfo(u.dtype).eps
    panels, previous = 1, _composite(function, u, 1)
    while panels < _MAX_PANELS:
        panels *= 2
        current = _composite(function, u, panels)
        error = (current - previous).abs() / current.abs().clamp_min(1)
        if not (error > tolerance).any():  # where an image is NaN, so is its integral
            return current
        previous = current
    raise ArithmeticError(
        f"the line integral did not reach {tolerance:.1e} with {_MAX_PANELS} panels of {_NODES} "
        f"Gauss-Legendre nodes (still changing by {float(error.nan_to_num(0).max()):.1e}); the function is "
        "not smooth enough for this rule"
    )


def _composite(function: Callable[[Tensor], Tensor], u: Tensor, panels: int) -> Tensor:
    nodes, weights = numpy.polynomial.legendre.leggauss(_NODES)
    total = torch.zeros_like(u)
    for panel in range(panels):
        for node, weight in zip(nodes, weights, strict=True):
            s = (panel + (node + 1) / 2) / panels
            total = total + (1.5 / panels * weight * s**2) * function(u * s**3)
    return total * u
