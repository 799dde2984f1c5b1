"""Dense linear algebra: what the fast code is compared with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convexreg.networks.convolution import analysis
from convexreg.networks.operators import Convolution, Dense, LinearOperator


def matrix(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """The matrix of a linear map on inputs of `shape` (no batch), float64, outputs in rows."""
    size = torch.Size(shape).numel()
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    return function(basis).flatten(1).T


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Jacobian of a batched map at the single input `x` `(1, ...)`: one row per output.

    One backward pass: the input is repeated once per output.
    """
    size = x.numel()
    points = x.detach().expand(size, *x.shape[1:]).clone().requires_grad_()
    directions = torch.eye(size, dtype=x.dtype).reshape(points.shape)
    (rows,) = torch.autograd.grad(function(points), points, directions)
    return rows.flatten(1)


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Derivative of a batch of numbers by automatic differentiation."""
    point = x.detach().clone().requires_grad_()
    (grad,) = torch.autograd.grad(function(point).sum(), point)
    return grad


def in_float64(operator: LinearOperator) -> Callable[[Tensor], Tensor]:
    """The operator with the kernels it applies in its own precision, evaluated in float64."""
    if isinstance(operator, Dense):
        weight = operator.weight.detach().double()
        return lambda x: x @ weight.T
    assert isinstance(operator, Convolution)
    stages = operator.stages if operator.staged else [operator.kernel]
    kernels = [kernel.detach().double() for kernel in stages]

    def apply(x: Tensor) -> Tensor:
        for kernel in kernels:
            x = analysis(x, kernel, operator.padding)
        return x

    return apply


def largest_eigenvalues(dense: Tensor, weights: Tensor) -> Tensor:
    """Of `A^T Diag(s) A` for every row `s` of `weights`, `(N, channels)`; rows of `A` by channel."""
    blocks = dense.unflatten(0, (weights.shape[1], -1))
    grams = torch.einsum("cpi,cpj->cij", blocks, blocks)
    return torch.linalg.eigvalsh(torch.einsum("nc,cij->nij", weights.double(), grams))[:, -1]
