"""Training that goes wrong stops, says so, and leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from convexreg import ConvexRegularizer
from convexreg.networks.operators import Convolution
from convexreg.solvers import Proximity, QuasiNewton, minimise
from convexreg.training.objectives import TrainingObjective
from tests.training.trainings import SETTINGS, log, training


class Exploding(TrainingObjective):
    """A loss, only its gradient, or a solve that becomes NaN in the third step."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.calls = what, 0

    def denoise(
        self, regularizer: ConvexRegularizer, noisy: Tensor, sigma: Tensor, start: Tensor
    ) -> Tensor:
        self.calls += 1
        result = noisy - regularizer.grad(noisy, sigma)
        if self.calls < 3:
            return result
        if self.what == "loss":
            return result * float("nan")
        if self.what == "solve":
            return minimise(Proximity(noisy * float("nan")), noisy, QuasiNewton(), gtol=1e-3).x
        result.register_hook(lambda grad: grad * float("nan"))
        return result


@pytest.mark.parametrize("what", ["loss", "gradient", "solve"])
def test_a_loss_that_is_not_a_number_stops_the_run(folder: Path, tmp_path: Path, what: str) -> None:
    run = training(folder, tmp_path, settings=replace(SETTINGS, bfloat16=True))
    run.objective = Exploding(what)
    convolutions = [m for m in run.regularizer.modules() if isinstance(m, Convolution)]
    with pytest.raises(FloatingPointError, match=r"at step 3; lower the learning rate$"):
        run.run()
    assert not any(convolution.in_bfloat16 for convolution in convolutions)
    run = training(folder, tmp_path, settings=replace(SETTINGS, checkpoint_every=2))
    run.objective = Exploding(what)
    with pytest.raises(
        FloatingPointError, match=r"The last checkpoint is .*checkpoint\.safetensors"
    ):
        run.run()
    assert all(torch.isfinite(p).all() for p in run.regularizer.parameters())
    assert len(log(run)) == 2
