"""The noise levels that a network knows, and how others are reached by scale."""

from __future__ import annotations

import torch
from torch import Tensor

from convexreg.networks.base import Sigma


def reached(
    sigma: Sigma, limits: tuple[float, float] | None, name: str
) -> tuple[Sigma, Tensor | None]:
    """The noise level within the limits that stands for `sigma`, and the scale of the images that takes it
    there, 0-dim or `(B,)`; `None` where none needs one.

    :param limits: the levels that a network is valid for, `None` of one that is not conditioned on them.
    :param name: of the model, for messages.
    :raises ValueError: no level, one that is not positive, or one of images that are not in [0, 1].
    """
    if limits is None:
        return sigma, None
    low, high = limits
    if sigma is None:
        raise ValueError(
            f"the model {name} is conditioned on the noise level: give sigma (deepinv: g_param)"
        )
    given = sigma
    if not isinstance(given, Tensor):
        given = torch.tensor(sigma, dtype=torch.float64, device="cpu")
    # levels are compared with the room that float32 rounding of 1/255 needs
    if bool(((given >= low * (1 - 1e-5)) & (given <= high * (1 + 1e-5))).all()):
        return given, None
    if not bool(((given > 0) & (given <= 1)).all()):
        least, most = given.min().item(), given.max().item()
        raise ValueError(
            f"sigma must be positive and at most 1, got {least:.5g}"
            + ("" if given.numel() == 1 else f" to {most:.5g}")
            + ". Noise levels are those of images in [0, 1] seen through an operator of norm one"
            + (": divide by 255, or by the norm" if most > 1 else "")
        )
    level = given.clamp(low, high)
    scale = level / given
    return level, scale if scale.ndim == 0 else scale.reshape(-1)
