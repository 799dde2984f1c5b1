"""A model with the strongest groups of its filters only, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.methods.models import gradient_module
from benchmarks.problems.table import Measurement
from convexreg import Model, reconstruct
from convexreg.models.files import aside
from convexreg.regularizer import ConvexRegularizer


def strengths(regularizer: ConvexRegularizer, measurements: Sequence[Measurement]) -> Tensor:
    """Rms force of every group, `scale |w| weight psi'`, over the pixels of all reconstructions.

    :raises ValueError: not one module whose terms have channels of their own.
    """
    found = gradient_module(regularizer)
    if found is None or not found[0].phi.groupwise:
        raise ValueError(f"the filters of {regularizer.name} do not come in groups of their own")
    module, operator = found
    norms = operator.kernel.flatten(1).norm(dim=1)
    squares = []
    for m in measurements:
        x = reconstruct(m.y, m.physics, sigma=m.sigma, regularizer=regularizer).image
        z, scale, weight = module.argument(x, m.sigma)
        force = module.phi.grad(z, weight) * norms[:, None, None]
        force = force if scale is None else scale * force
        squares.append(force.square().mean((0, 2, 3)))
    return torch.stack(squares).mean(0).unflatten(0, (module.terms, -1)).sum(1).sqrt()


def pruned(model: Model, strength: Tensor, count: int) -> ConvexRegularizer:
    """The model with its `count` strongest groups.

    :param strength: of all groups, `(groups,)`.
    """
    config, state = model.config, dict(model.regularizer.state_dict())
    groups = strength.topk(count).indices.sort().values
    channels = torch.arange(config.channels[-1]).unflatten(0, (len(strength), -1))[groups].flatten()
    last = f"operator.kernels.{len(config.kernel_sizes) - 1}"
    for key, value in state.items():
        if key.endswith(last):
            state[key] = value[channels]
        elif key.endswith("log_threshold"):
            state[key] = value[:, channels]
        elif key.endswith("log_slope"):
            state[key] = value[:, groups]
    fewer = replace(config, channels=(*config.channels[:-1], len(channels)))
    with aside():
        twin = fewer.build(f"{model.regularizer.name}-{count}")
    twin.load_state_dict(state)
    return twin.eval().requires_grad_(False)
