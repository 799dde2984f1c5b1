"""The quasi-Newton matrix, against dense algebra."""

from __future__ import annotations

import pytest
import torch
from oracles import matrix

from solvers.curvature import Curvature, Preconditioner
from solvers.quasi_newton import Pair, _apply

SHAPE = (1, 3, 4)


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_two_loops_apply_the_matrix_of_bfgs(count: int, preconditioned: bool) -> None:
    """`H <- (I - s t^T / <s, t>) H (I - t s^T / <s, t>) + s s^T / <s, t>`, pair after pair.

    The first `H` is scaled so that `<t, H t> = <s, t>` for the newest pair.
    """
    model = Curvature(1 + torch.rand(1, 1, 3, 3).double(), 0.5 + torch.rand(1, *SHAPE).double())
    preconditioner = Preconditioner(model) if preconditioned else None
    dense = torch.eye(12).double() if preconditioner is None else matrix(preconditioner, SHAPE)
    expected, pairs = dense.repeat(2, 1, 1), []
    for _ in range(count):
        move = torch.randn(2, *SHAPE).double()
        change = move + 0.3 * torch.randn_like(move)
        pairs.append(Pair(move, change, 1 / (move * change).sum((1, 2, 3))))
    for image in range(2):
        columns = [(p.move[image].flatten(), p.change[image].flatten()) for p in pairs]
        for s, t in columns[-1:]:
            expected[image] *= s.dot(t) / (t @ dense @ t)
        for s, t in columns:
            keep = torch.eye(12).double() - torch.outer(t, s) / s.dot(t)
            expected[image] = keep.T @ expected[image] @ keep + torch.outer(s, s) / s.dot(t)
    grad = torch.randn(2, *SHAPE).double()
    applied = _apply(tuple(pairs), preconditioner, grad)
    product = (expected @ grad.flatten(1).unsqueeze(2)).reshape(2, *SHAPE)
    torch.testing.assert_close(applied, product)
