"""What a call computes in depends on its arguments, not on what is switched on around it."""

from __future__ import annotations

import pytest
import torch

from convexreg.solvers.precision import without_autocast


@without_autocast
def product(a: torch.Tensor, *, b: torch.Tensor) -> torch.Tensor:
    """A matrix product."""
    return a @ b


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_autocast_is_off_inside_and_on_again_after(kind: str) -> None:
    """Without a warning where there is no such device."""
    was = torch.is_autocast_enabled(kind)
    torch.set_autocast_enabled(kind, True)
    try:
        assert product(torch.eye(3), b=torch.ones(3, 3)).dtype == torch.float32
        assert torch.is_autocast_enabled(kind)
    finally:
        torch.set_autocast_enabled(kind, was)


def test_a_wrapped_function_keeps_its_name_and_its_errors() -> None:
    assert product.__name__ == "product"
    assert product.__doc__ == "A matrix product."
    with torch.autocast("cpu"), pytest.raises(RuntimeError, match="shapes"):
        product(torch.ones(2, 3), b=torch.ones(2, 3))
