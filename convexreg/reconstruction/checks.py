"""What measurements, numbers and operators have to be, checked before anything is computed."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from convexreg.reconstruction.defaults import ACCURACIES
from convexreg.solvers.batch import inner
from convexreg.solvers.data_terms import DataTerm
from convexreg.solvers.objective import Objective
from convexreg.solvers.solver import Solver

_WEIGHT_RULES = ("auto", "discrepancy", "sure")


def check_operator(physics: Any, y: Tensor) -> Tensor:
    """Refuse what is not an operator with its adjoint that takes these measurements.

    :return: `A^T y`.
    :raises TypeError: no such operator.
    :raises ValueError: measurements of another shape or precision than it works with.
    """
    if not (
        callable(getattr(physics, "A", None)) and callable(getattr(physics, "A_adjoint", None))
    ):
        raise TypeError(
            "physics must be a linear physics of deepinv or another object with A and A_adjoint, got "
            f"{type(physics).__name__}"
        )
    name = type(physics).__name__
    try:
        image = physics.A_adjoint(y)
        again = physics.A(image)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            f"the physics {name} cannot be applied to measurements of shape {tuple(y.shape)} and "
            f"{y.dtype}{_others(physics, y)}; its filters and masks must fit them and have the same dtype "
            f"({error})"
        ) from error
    if image.dtype != y.dtype or again.dtype != y.dtype:
        there = image.dtype if image.dtype != y.dtype else again.dtype
        raise ValueError(
            f"the physics {name} turns measurements in {y.dtype} into {there}{_others(physics, y)}; convert "
            "the physics or the measurements, so that they agree"
        )
    if again.shape != y.shape:
        raise ValueError(
            f"the physics {name} makes measurements of {tuple(again.shape)}, but y is {tuple(y.shape)}"
        )
    return image


def _others(physics: Any, y: Tensor) -> str:
    """The physics' tensors of another precision, in words."""
    if not isinstance(physics, nn.Module):
        return ""
    named = [*physics.named_buffers(), *physics.named_parameters()]
    other = [
        f"{name} is {tensor.dtype}"
        for name, tensor in named
        if tensor.is_floating_point() and tensor.dtype != y.dtype and not name.startswith("_")
    ]
    return f" ({', '.join(other)})" if other else ""


def check_request(lam: Any, anchor: Any, accuracy: str, gap_tol: float | None) -> None:
    """Refuse settings that are none, or that contradict each other.

    :raises ValueError: they are.
    """
    if isinstance(lam, str) and lam not in _WEIGHT_RULES:
        raise ValueError(f'lam must be a number, "auto", "discrepancy" or "sure"; got {lam!r}')
    if accuracy != "default" and gap_tol is not None:
        raise ValueError(
            f"accuracy={accuracy!r} and gap_tol={gap_tol!r} both say when to stop; give one of them"
        )
    if accuracy not in ACCURACIES:
        raise ValueError(
            f'accuracy must be "fast", "default" or "exact", gap_tol takes a number; got {accuracy!r}'
        )
    if anchor != "auto" and (isinstance(anchor, str) or not 0 <= anchor < math.inf):
        raise ValueError(f'anchor must be a finite number, zero or more, or "auto"; got {anchor!r}')


def check_solver(solver: Solver[Any] | None) -> None:
    """Refuse what is not a solver.

    :raises TypeError: it is not.
    """
    if solver is not None and not isinstance(solver, Solver):
        raise TypeError(
            f"solver must be one of convexreg.solvers, such as convexreg.solvers.FISTA(), got {solver!r}"
        )


@torch.no_grad()
def warn_of_other_scales(start: Tensor, sigma: Tensor, data: Objective) -> None:
    """Warn where images are not in [0, 1], or the operator's norm is far from one.

    Images in [0, 1] exceed that by noise only; those in [0, 255] by far. Models know the noise of
    images seen through an operator of norm one.
    """
    peak = float(start.abs().max())
    if peak > 2 + 10 * float(sigma.max()):
        warnings.warn(
            f"the images seem to reach {peak:.4g}, but models know those in [0, 1]: divide the measurements "
            "and sigma by what stands for white (255), or the operator by its norm",
            stacklevel=3,
        )
    if not isinstance(data, DataTerm):
        return
    seen = data.operator.A(start)
    size = inner(start, start).clamp_min(torch.finfo(torch.float64).tiny)
    least = float((inner(seen, seen) / size).sqrt().max())
    most = float(torch.as_tensor(data.bounds.largest, device=start.device).max()) ** 0.5
    if least > 3 or most < 0.1:
        norm = f"at least {least:.3g}" if least > 3 else f"at most {most:.3g}"
        warnings.warn(
            f"the operator has a norm of {norm}, but models know the noise of images seen through one of "
            "norm one: divide the operator, the measurements and sigma by its norm, or solves are slow "
            "and the weight of the regularizer is wrong",
            stacklevel=3,
        )


def check_measurements(y: Tensor) -> None:
    """Refuse what is not a batch of finite floating-point measurements.

    :raises ValueError: it is not.
    """
    if not isinstance(y, Tensor) or y.dtype not in (torch.float32, torch.float64):
        kind = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(
            f"the measurements must be a floating-point tensor, float32 or float64 (images scaled to "
            f"[0, 1]), got {kind}"
        )
    if y.ndim < 2 or y.numel() == 0:
        raise ValueError(
            f"the measurements must be a batch (B, ...) with at least one number, got {tuple(y.shape)}"
        )
    if not torch.isfinite(y).all():
        raise ValueError(
            "the measurements hold NaN or infinite numbers; replace or mask them first"
        )


def check_positive(name: str, value: Tensor | float, y: Tensor, *, allow_zero: bool) -> Tensor:
    """`value` as a float64 tensor `(B,)` on the device of `y`.

    :raises ValueError: not positive and finite, or neither one number nor one per image.
    """
    if isinstance(value, str):
        raise ValueError(f"{name} must be one number or one per image, got {value!r}")
    tensor = torch.as_tensor(value, dtype=torch.float64, device=y.device).reshape(-1)
    if tensor.numel() not in (1, y.shape[0]):
        raise ValueError(
            f"{name} must be one number or one per image ({y.shape[0]}), got {tensor.numel()}"
        )
    smallest = tensor.min().item()
    if not torch.isfinite(tensor).all() or smallest < 0 or (smallest == 0 and not allow_zero):
        wanted = "nonnegative" if allow_zero else "positive"
        raise ValueError(f"{name} must be {wanted} and finite, got {smallest:g}")
    return tensor.expand(y.shape[0])


def check_contradictions(sigma: Tensor, y: Tensor) -> None:
    """Refuse noise that is far stronger than all that was measured, signal and noise.

    :param sigma: `(B,)`.
    :raises ValueError: it is; levels below 0.2 are taken on faith (as of a black image in a batch).
    """
    measured = y != 0  # zeros are taken for places without a measurement
    size = y.square().flatten(1).sum(1, dtype=torch.float64)
    size = (size / measured.flatten(1).sum(1).clamp_min(1)).sqrt()
    if bool(((sigma > 0.2) & (sigma > 1.5 * size)).any()):
        raise ValueError(
            f"sigma is {sigma.max().item():.4g}, but noise and signal together have an rms of "
            f"{size.max().item():.4g} only; sigma is the standard deviation of the noise in the unit of the "
            "measurements (images in [0, 1]: divide by 255)"
        )


def checked_start(x0: Tensor, y: Tensor, physics: Any) -> Tensor:
    """A starting image in the dtype and on the device of the measurements.

    :raises ValueError: it is not finite, or not of the images that the measurements are of.
    """
    start = x0.to(y)
    if not torch.isfinite(start).all():
        raise ValueError("x0 holds NaN or infinite numbers; replace them first")
    try:
        shape = physics.A(start).shape
    except RuntimeError as error:
        raise ValueError(
            f"the physics does not take an x0 of {tuple(x0.shape)} ({error})"
        ) from error
    if shape != y.shape:
        raise ValueError(
            f"x0 of {tuple(x0.shape)} has measurements of {tuple(shape)}, but y is {tuple(y.shape)}"
        )
    return start
