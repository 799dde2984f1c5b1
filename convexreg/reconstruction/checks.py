"""What measurements, numbers and operators have to be, checked before anything is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convexreg.solvers.loop import Solver
from convexreg.solvers.objective import inner


def check_linear(physics: Any, x: Tensor) -> None:
    """Refuse an operator that is not linear or whose adjoint is not its adjoint.

    Two random images must satisfy `A(u + 2 v) = A u + 2 A v` and `<A u, A v> = <u, A^T A v>`, to
    rounding. A necessary condition: without it the problem is not convex or its gradient is wrong.

    :raises ValueError: they do not.
    """
    generator = torch.Generator(device=x.device).manual_seed(0)
    u, v = (
        torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device) for _ in range(2)
    )
    image_u, image_v = physics.A(u), physics.A(v)
    together = physics.A(u + 2 * v)
    linear_error = (together - image_u - 2 * image_v).abs().max() / together.abs().max()
    if not linear_error <= 1e-3:
        raise ValueError(
            "the physics is not linear (A(u + 2 v) differs from A u + 2 A v), so the problem would not "
            "be convex; convexreg reconstructs from linear measurements only"
        )
    one, other = inner(image_u, image_v), inner(u, physics.A_adjoint(image_v))
    if not ((one - other).abs() <= 1e-3 * one.abs().clamp_min(1e-12)).all():
        raise ValueError(
            "A_adjoint is not the adjoint of A (<A u, A v> differs from <u, A^T A v>), so the gradient "
            "would be wrong; correct the physics"
        )


def check_arguments(physics: Any, solver: Solver[Any] | None) -> None:
    """Refuse what is not an operator with its adjoint, or not a solver.

    :raises TypeError: it is not.
    """
    if not (
        callable(getattr(physics, "A", None)) and callable(getattr(physics, "A_adjoint", None))
    ):
        raise TypeError(
            "physics must be a linear physics of deepinv or another object with A and A_adjoint, got "
            f"{type(physics).__name__}"
        )
    if solver is not None and not isinstance(solver, Solver):
        raise TypeError(
            f"solver must be one of the package solvers, such as solvers.FISTA(), got {solver!r}"
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
