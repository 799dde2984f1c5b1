"""deepinv's plug-and-play with its classical denoisers, all at its defaults but step and noise level."""

from __future__ import annotations

from typing import Literal

from benchmarks.harness.outcome import Result
from benchmarks.methods.models import Unavailable
from benchmarks.problems.table import Measurement

Denoiser = Literal["TVDenoiser", "TGVDenoiser", "WaveletDenoiser"]


def reconstruct(denoiser: Denoiser, measurement: Measurement, weight: float) -> Result:
    """Proximal gradient descent with the step `1 / |A|^2` and the denoiser at the noise level.

    :raises Unavailable: the package that the denoiser needs is not installed.
    """
    import deepinv

    try:
        model = getattr(deepinv.models, denoiser)()
    except ImportError as error:
        raise Unavailable(f"deepinv's {denoiser} needs a package: {error}") from error
    m = measurement
    solver = deepinv.optim.PGD(
        data_fidelity=deepinv.optim.L2(),
        prior=deepinv.optim.PnP(model),
        stepsize=1 / float(m.data_term().lipschitz(m.naive)),
        sigma_denoiser=weight * m.sigma,
    )
    return Result(solver(m.y, m.physics, init=m.naive))
