"""What a training run is, besides its images and its objective."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a run; together with the images and the seed they determine it.

    :ivar learning_rate: of Adam, for the filters; decays to zero along a half cosine.
    :ivar conditioning_rate: for the noise conditioning and the potential, whose parameters are
        logarithms or of order one.
    :ivar emphasis: on hard patches, see `objectives.patch_loss`.
    :ivar flatness: weight of the logarithm of the proven Lipschitz constant, relative to the loss: the
        flatter a regularizer, the fewer iterations a solve takes.
    :ivar bfloat16: compute what a step can afford to in bfloat16 (`convexreg.networks.convolution`);
        validation never does.
    :ivar tv2: weight of the TV2 penalty on spline activations (CRR-NN's, relative to the loss).
    """

    steps: int = 2000
    batch_size: int = 8
    patch_size: int = 64
    learning_rate: float = 3e-3
    conditioning_rate: float = 2e-2
    emphasis: float = 0.0
    flatness: float = 0.0
    bfloat16: bool = False
    tv2: float = 1e-3
    seed: int = 0
    checkpoint_every: int = 200
    validate_every: int = 500
