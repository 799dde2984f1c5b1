"""Codes of an infimal convolution: `min_a |u - D a|^2 / 2 + sum_k s_k |a_k|`, and their derivative.

Everything is in columns: responses `u` `(C, P, N)` for `N` independent blocks of `P` pixels, atoms `D`
`(C, K)`, codes `a` `(K, P, N)`, whose norms `|a_k|` are over the pixels of a block.

The dual problem is `max_r <r, u> - |r|^2 / 2` over `|(D^T r)_k| <= s_k` (Rockafellar 1970, Thm 31.1), with
the optimal `r* = u - D a*` the gradient of the minimum in `u`. A feasible `r` whose value is within `gap` of
the minimum is within `sqrt(2 gap)` of `r*`, as the dual objective is 1-strongly concave; and
`v -> <r, v> - |r|^2 / 2` lies below the minimum for all `v`, so that value and gradient taken from
it bound from below whatever the accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_CHECK = 8
"""Iterations from one look at the duality gaps to the next."""
_NEWTON = 64
"""Iterations from one Newton step to the next, which ends blocks whose groups are found."""
_ITERATIONS = 20000
_COLUMNS = 4096
"""Pixels that are solved for at a time: their codes stay in the cache."""


@dataclass(frozen=True)
class Codes:
    """Codes with a feasible dual point.

    :ivar codes: `a`, `(K, P, N)`.
    :ivar residual: `u - D a` scaled until it is feasible, `(C, P, N)`.
    :ivar scale: by what, at most one, `(N,)`.
    :ivar gap: proven bound on how much the primal value exceeds the dual one, `(N,)`.
    """

    codes: Tensor
    residual: Tensor
    scale: Tensor
    gap: Tensor


def product(matrix: Tensor, columns: Tensor) -> Tensor:
    """`(I, J)` times `(J, P, N)`."""
    return (matrix @ columns.flatten(1)).unflatten(1, columns.shape[1:])


def norms(columns: Tensor) -> Tensor:
    """Over the pixels of the blocks, `(K, P, N)` to `(K, N)`."""
    return columns.abs()[:, 0] if columns.shape[1] == 1 else columns.square().sum(1).sqrt()


def shrunk(columns: Tensor, thresholds: Tensor) -> Tensor:
    """Block soft thresholding, `(K, P, N)` by `(K,)`: the proximal operator of `sum_k s_k |a_k|`."""
    size = norms(columns)
    kept = (size - thresholds.unsqueeze(1)).clamp_min(0)
    tiny = torch.finfo(columns.dtype).tiny
    return columns * (kept / size.clamp_min(tiny)).unsqueeze(1)


def squared_norm(atoms: Tensor) -> Tensor:
    """`|D|^2`, the exact largest eigenvalue of the Gram matrix, rounded up, 0-dim."""
    wide = atoms.double()
    gram = wide @ wide.mT if wide.shape[0] <= wide.shape[1] else wide.mT @ wide
    bound = torch.linalg.eigvalsh(gram)[-1].clamp_min(torch.finfo(atoms.dtype).tiny)
    return (bound * (1 + 8 * torch.finfo(atoms.dtype).eps)).to(atoms.dtype)


def certified(error: Tensor, codes: Tensor, atoms: Tensor, thresholds: Tensor) -> Codes:
    """The feasible dual point next to `error = u - D a`, and the gap between it and the codes.

    The gap is a sum of nonnegative terms, `|error - r|^2 / 2 + sum_k s_k |a_k| - <(D^T r)_k, a_k>`
    (Fenchel and Young), which rounding does not cancel.
    """
    inside = product(atoms.mT, error)
    size = norms(inside)
    excess = (size / thresholds.unsqueeze(1)).amax(0)
    scale = 1 / excess.clamp_min(1)
    pairs = thresholds.unsqueeze(1) * norms(codes) - scale * (inside * codes).sum(1)
    gap = (1 - scale).square() / 2 * error.square().sum((0, 1)) + pairs.clamp_min(0).sum(0)
    return Codes(codes, scale * error, scale, gap)


@torch.no_grad()
def solve(u: Tensor, atoms: Tensor, thresholds: Tensor, tolerance: float) -> Codes:
    """Codes of every block, until the dual point is within `tolerance` times its norm of the optimal one.

    Accelerated proximal gradient (Beck & Teboulle 2009) with steps of `1 / |D|^2` and restarts by the
    gradient (O'Donoghue & Candes 2015), block by block: a block is finished when its own gap is small enough,
    and its answer does not depend on the others. Now and then a Newton step on the groups that are not zero,
    kept where it makes the gap smaller.

    :raises ArithmeticError: codes that do not get there, see the message.
    """
    width = max(1, _COLUMNS // u.shape[1])
    pieces = [_solved(piece, atoms, thresholds, tolerance) for piece in u.split(width, 2)]
    if len(pieces) == 1:
        return pieces[0]
    return Codes(*(torch.cat(parts, -1) for parts in zip(*map(_parts, pieces), strict=True)))


def _solved(u: Tensor, atoms: Tensor, thresholds: Tensor, tolerance: float) -> Codes:
    step = 1 / squared_norm(atoms)
    transposed, soft = atoms.mT.contiguous(), step * thresholds
    codes = u.new_zeros(atoms.shape[1], *u.shape[1:])
    result = certified(u, codes, atoms, thresholds)
    left = _unfinished(result, u, atoms, tolerance)
    u, codes = u[..., left], codes[..., left]
    ahead, momentum = codes, u.new_ones(u.shape[2])
    iteration = 0
    while len(left):
        iteration += 1
        following = shrunk(ahead - step * product(transposed, product(atoms, ahead) - u), soft)
        move = following - codes
        again = ((ahead - following) * move).sum((0, 1)) > 0
        momentum = torch.where(again, 1.0, momentum)
        larger = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        ahead = following + (momentum - 1) / larger * move
        codes, momentum = following, larger
        if iteration % _CHECK:
            continue
        here = certified(u - product(atoms, codes), codes, atoms, thresholds)
        if iteration % _NEWTON == 0:
            nearer = _newton(u, atoms, thresholds, codes)
            there = certified(u - product(atoms, nearer), nearer, atoms, thresholds)
            better = there.gap < here.gap
            here = Codes(
                *(
                    torch.where(better, *pair)
                    for pair in zip(_parts(there), _parts(here), strict=True)
                )
            )
            codes = here.codes
            ahead = torch.where(better, codes, ahead)
            momentum = torch.where(better, 1.0, momentum)
        for kept, new in zip(_parts(result), _parts(here), strict=True):
            kept[..., left] = new
        stay = _unfinished(here, u, atoms, tolerance)
        if len(stay) and iteration >= _ITERATIONS:
            raise ArithmeticError(
                f"the codes of {len(stay)} blocks are not found to {tolerance:g} in {iteration} iterations; "
                "loosen the tolerance of the potential, or check its atoms and thresholds"
            )
        if len(stay) < len(left):
            left, u, codes, ahead, momentum = (
                part[..., stay] for part in (left, u, codes, ahead, momentum)
            )
    return result


class DifferentiableCodes(torch.autograd.Function):
    """Codes as a function of `u`, atoms and thresholds, differentiable once.

    Where no group is about to appear or vanish, those that are not zero satisfy
    `0 = D^T (D a - u) + s a / |a|`. By the implicit function theorem derivatives take the (pseudo-)inverse of
    `H = D^T D + Diag(s / |a| (1 - a a^T / |a|^2))` on them, which conjugate gradients apply.
    """

    @staticmethod
    def forward(ctx, u: Tensor, atoms: Tensor, thresholds: Tensor, codes: Tensor) -> Tensor:
        """The codes, as they are."""
        ctx.save_for_backward(u, atoms, thresholds, codes)
        return codes.clone()

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        """Derivatives in `u`, atoms and thresholds."""
        return (*_CodesBackward.apply(grad_output, *ctx.saved_tensors), None)


class _CodesBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, grad: Tensor, u: Tensor, atoms: Tensor, thresholds: Tensor, codes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        w = inverse_hessian(grad, atoms, thresholds, codes)
        through = product(atoms, w)
        residual = u - product(atoms, codes)
        by_atoms = residual.flatten(1) @ w.flatten(1).mT - through.flatten(1) @ codes.flatten(1).mT
        size = norms(codes).unsqueeze(1)
        directions = torch.where(size > 0, codes / size, 0.0)
        return through, by_atoms, -(w * directions).sum((1, 2))

    @staticmethod
    def backward(ctx, *_):
        raise NotImplementedError(
            "the gradient of an infimal convolution is differentiable once and its value twice: its codes "
            "are found by iterations, whose second derivatives are not known"
        )


@torch.no_grad()
def inverse_hessian(v: Tensor, atoms: Tensor, thresholds: Tensor, codes: Tensor) -> Tensor:
    """`H^+ v` on the groups that are not zero, see `DifferentiableCodes`; zero on the others, `(K, P, N)`.

    Conjugate gradients with the inverse diagonal, block by block: of a singular `H`, consistent equations
    (Hayami 2018, arXiv 1809.00793) lead to one of the solutions, which all have the same `D w`.
    """
    size = norms(codes).unsqueeze(1)
    alive = size > 0
    direction = torch.where(alive, codes / size, 0.0)
    bend = torch.where(alive, thresholds.reshape(-1, 1, 1) / size, 0.0)
    diagonal = atoms.square().sum(0).reshape(-1, 1, 1) + bend * (1 - direction.square())
    precondition = torch.where(alive & (diagonal > 0), 1 / diagonal, 0.0)

    def applied(w: Tensor) -> Tensor:
        tangent = w - direction * (direction * w).sum(1, keepdim=True)
        smooth = product(atoms.mT, product(atoms, w))
        return torch.where(alive, smooth, 0.0) + bend * tangent

    residual = torch.where(alive, v, 0.0)
    solution = torch.zeros_like(v)
    scaled = precondition * residual
    ahead, energy = scaled, (residual * scaled).sum((0, 1))
    target = (4 * torch.finfo(v.dtype).eps) ** 2 * energy
    for _ in range(4 * codes.shape[0] * codes.shape[1]):
        if not bool((energy > target).any()):
            break
        bent = applied(ahead)
        curvature = (ahead * bent).sum((0, 1))
        length = torch.where((energy > target) & (curvature > 0), energy / curvature, 0.0)
        solution = solution + length * ahead
        residual = residual - length * bent
        scaled = precondition * residual
        before, energy = energy, (residual * scaled).sum((0, 1))
        ahead = scaled + torch.where(before > 0, energy / before, 0.0) * ahead
    return solution


def _newton(u: Tensor, atoms: Tensor, thresholds: Tensor, codes: Tensor) -> Tensor:
    """A Newton step on the groups that are not zero; those that it turns around become zero."""
    size = norms(codes).unsqueeze(1)
    directions = torch.where(size > 0, codes / size, 0.0)
    slope = product(atoms.mT, product(atoms, codes) - u) + thresholds.reshape(-1, 1, 1) * directions
    nearer = codes - inverse_hessian(slope, atoms, thresholds, codes)
    return torch.where((nearer * codes).sum(1, keepdim=True) > 0, nearer, 0.0)


def _parts(found: Codes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return found.codes, found.residual, found.scale, found.gap


def _unfinished(found: Codes, u: Tensor, atoms: Tensor, tolerance: float) -> Tensor:
    """Blocks with a gap larger than allowed, and than what the rounding of `u - D a` makes."""
    energy = found.residual.square().sum((0, 1)) / 2
    terms = u.square().sum((0, 1)).sqrt() * (atoms.norm(dim=0) @ norms(found.codes))
    allowed = tolerance**2 * energy + 8 * torch.finfo(terms.dtype).eps * terms
    return (found.gap > allowed).nonzero().flatten()  # what is not finite is finished
