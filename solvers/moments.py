"""Moments of a distribution from what chains have seen of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Visit:
    """What chains have seen: mean and variance of every pixel, and their energy (`Moments.equipartition`)."""

    mean: Tensor
    variance: Tensor
    energy: Tensor


@dataclass(frozen=True)
class Moments:
    """Estimates of a distribution's moments; `(B, ...)` per pixel and `(B,)` per distribution.

    :ivar mean, std: per pixel.
    :ivar error: Monte Carlo standard error of the mean, per pixel.
    :ivar relative_error: rms of `error` over rms of `std`, `(B,)`.
    :ivar std_error: rms of the Monte Carlo error of the standard deviation over that of `std`, `(B,)`.
    :ivar r_hat: split R-hat from the variances of all pixels, `(B,)`; one when all chains agree.
    :ivar equipartition: mean of `<x - o, grad F(x)> / (n T)` for a fixed `o` and `n` pixels, `(B,)`. It is
        one for the density itself, by parts, and for these chains but for Monte Carlo error and what a step
        that is too long makes of it.
    :ivar equipartition_error: its Monte Carlo standard error.
    :ivar steps: gradient evaluations of every chain, with those of the rounds thrown away.
    :ivar converged: whether both relative errors reached the tolerance, `(B,)`.
    """

    mean: Tensor
    std: Tensor
    error: Tensor
    relative_error: Tensor
    std_error: Tensor
    r_hat: Tensor
    equipartition: Tensor
    equipartition_error: Tensor
    steps: int
    converged: Tensor

    @property
    def effective_samples(self) -> Tensor:
        """Number of independent samples with the same error of the mean, `(B,)`."""
        return self.relative_error**-2

    @classmethod
    def pooled(
        cls, halves: list[Visit], chains: int, count: int, steps: int, tol: float
    ) -> Moments:
        """Those of half-chains of `count` steps each (Gelman et al. 2013, section 11.4).

        :param halves: what they saw; the chains of a distribution are next to each other.
        """
        means, variances, energies = (
            torch.cat([part.unflatten(0, (-1, chains)) for part in parts], 1)
            for parts in zip(*((v.mean, v.variance, v.energy) for v in halves), strict=True)
        )
        samples = means.shape[1]
        within = variances.mean(1) * count / max(count - 1, 1)
        between = means.var(1)
        variance = within * (count - 1) / count + between
        error = between / samples
        # the variance of a half-chain about the overall mean, and how much those disagree
        spread = variances + (means - means.mean(1, keepdim=True)).square()
        spread = (
            spread.var(1) / samples / (4 * variance.clamp_min(torch.finfo(variance.dtype).tiny))
        )
        relative, of_std, r_hat = (
            (part.flatten(1).mean(1) / whole.flatten(1).mean(1)).sqrt()
            for part, whole in ((error, variance), (spread, variance), (variance, within))
        )
        return cls(
            means.mean(1),
            variance.sqrt(),
            error.sqrt(),
            relative,
            of_std,
            r_hat,
            energies.mean(1),
            energies.std(1) / samples**0.5,
            steps,
            (relative <= tol) & (of_std <= tol),
        )
