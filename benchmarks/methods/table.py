"""Reconstruction methods under test; benchmarks/README.md shows how to add your own.

A function that returns a tensor has done a fixed amount of work (outcome `finished`); return a
`Result` to say more. With `weight=1.0` in the row the weight is tuned from there on the tuning images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.harness.options import Options
from benchmarks.harness.outcome import Result, outcome_of
from benchmarks.harness.registry import selected
from benchmarks.methods import denoisers, patches, plug_and_play, total_variation, wavelets
from benchmarks.methods.models import NamedModel, Unavailable, models
from benchmarks.problems.table import Measurement
from convexreg import reconstruct

FAMILIES = ("denoising", "deblurring", "physics")
# rms of the gradient, where no convexity allows a certificate
NONCONVEX_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Method:
    """A row of the table.

    :ivar reconstruct: `(measurement, weight)` to an image or a `Result`; raises
        `Unavailable` when it cannot be tried here.
    :ivar weight: where the tuning of the weight starts, in units in which one is a fair guess; `None`
        when there is nothing to tune.
    :ivar tuned: the families in which the weight is tuned; elsewhere it is one.
    """

    description: str
    reconstruct: Callable[[Measurement, float], Tensor | Result]
    weight: float | None = None
    families: tuple[str, ...] = FAMILIES
    tuned: tuple[str, ...] = FAMILIES


METHODS: dict[str, Method] = {
    "measurements": Method(
        "the data in the shape of the image", lambda measurement, weight: measurement.naive
    ),
    "TV": Method("isotropic total variation, to high accuracy", total_variation.reconstruct, 1.0),
    "TGV": Method(
        "second-order total generalized variation (deepinv)",
        denoisers.total_generalized_variation,
        1.0,
        ("denoising",),
    ),
    "wavelets": Method(
        "l1 norm of orthonormal wavelet coefficients, deepinv's FISTA", wavelets.reconstruct, 1.0
    ),
    "BM3D": Method(
        "block matching, package bm3d (no regularizer)",
        denoisers.block_matching,
        families=("denoising",),
    ),
    "PnP TV": Method(
        "plug-and-play by deepinv, its defaults",
        partial(plug_and_play.reconstruct, "TVDenoiser"),
        families=FAMILIES[1:],
    ),
    "PnP TGV": Method(
        "plug-and-play by deepinv, its defaults",
        partial(plug_and_play.reconstruct, "TGVDenoiser"),
        families=FAMILIES[1:],
    ),
    "PnP wavelets": Method(
        "plug-and-play by deepinv, its defaults",
        partial(plug_and_play.reconstruct, "WaveletDenoiser"),
        families=FAMILIES[1:],
    ),
}


def methods(options: Options, family: str) -> dict[str, Method]:
    """Classical methods and one method per model, those of the family and those asked for.

    :raises ValueError: a name asked for is not a method's.
    """
    table = dict(METHODS)
    for model in models(options):
        table[model.name] = Method(
            f"learned regularizer, {model.description}",
            partial(_variational, model, options.time_limit),
            1.0,
            tuned=FAMILIES if model.tune_denoising else FAMILIES[1:],
        )
        if not model.tune_denoising:
            table[f"{model.name} (auto)"] = Method(
                "the same with the weight that users get",
                partial(_by_default, model, options.time_limit),
                families=FAMILIES[1:],
            )
    table["CPR (published)"] = Method(
        "convex patch regularizer, its authors' weights, one model for each noise level",
        partial(patches.reconstruct, options),
        families=("denoising",),
    )
    table = {name: row for name, row in table.items() if family in row.families}
    return selected(table, options.methods, "method", f" for {family}")


def _by_default(
    model: NamedModel, time_limit: float, measurement: Measurement, weight: float
) -> Result:
    return _variational(model, time_limit, measurement, "auto")


def _variational(
    model: NamedModel, time_limit: float, measurement: Measurement, weight: float | Literal["auto"]
) -> Result:
    """`reconstruct` as users call it; evaluations are those of all rounds.

    Without convexity nothing is certified, and the rms of the gradient decides.
    """
    m = measurement
    regularizer: Any = model.load().to(m.y.device)
    levels = regularizer.sigma_range
    if levels is not None and m.sigma > levels[1]:
        raise Unavailable(f"trained for noise levels up to {255 * levels[1]:.3g}/255")
    result = reconstruct(
        m.y,
        m.physics,
        sigma=m.sigma,
        regularizer=regularizer,
        lam=weight,
        gtol=None if getattr(regularizer, "convex", True) else NONCONVEX_TOLERANCE,
        time_limit=time_limit,
    )
    return Result(
        result.image,
        outcome_of(int(result.status)),
        evaluations=sum(float(each.evaluations) for each in result.rounds),
        certified=float(result.certificate.relative_gap),
        weight=float(torch.as_tensor(result.problem.lam)),
    )
