"""Mean and standard deviation of `exp(-F / T)` by Langevin sampling, with a rule that says when to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import per_image
from .objective import Objective
from .precision import without_autocast

_FIRST_ROUND = 256


@dataclass(frozen=True)
class Moments:
    """Estimates of a distribution's moments; `(B, ...)` per pixel and `(B,)` per distribution.

    :ivar mean, std: per pixel.
    :ivar error: Monte Carlo standard error of the mean, per pixel.
    :ivar relative_error: rms of `error` over rms of `std`, `(B,)`.
    :ivar r_hat: split R-hat from the variances of all pixels, `(B,)`; one when all chains agree.
    :ivar steps: gradient evaluations of every chain, with those of the rounds thrown away.
    :ivar converged: whether `relative_error` reached the tolerance, `(B,)`.
    """

    mean: Tensor
    std: Tensor
    error: Tensor
    relative_error: Tensor
    r_hat: Tensor
    steps: int
    converged: Tensor

    @property
    def effective_samples(self) -> Tensor:
        """Number of independent samples with the same error of the mean, `(B,)`."""
        return self.relative_error**-2


@without_autocast
def sample_moments(
    objective: Objective,
    starts: Tensor,
    *,
    temperature: Tensor | float,
    chains: int = 4,
    tol: float = 0.1,
    step: float = 1.0,
    persistence: float = 0.0,
    max_steps: int = 20000,
    generator: torch.Generator | None = None,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Moments:
    """Moments of the density proportional to `exp(-F(x) / T)` for a convex `F` with a proven `L`.

    BAOAB (Leimkuhler & Matthews 2013), one gradient a step, with standard normal `n`:

        v <- v - h/2 grad F(x),  x <- x + h/2 v,  v <- c v + sqrt((1 - c^2) T) n,
        x <- x + h/2 v,  v <- v - h/2 grad F(x),      h^2 / 2 = step / L,  c = persistence

    With `c = 0` that is `x_{k+1} = x_k - (step / L) grad F(x_k) + sqrt(step T / (2 L)) (n_k + n_{k+1})`,
    and `step <= 2` is proven to be stable for every convex `F`: the map `x -> x - (step / L) grad F(x)` is
    nonexpansive (Baillon & Haddad 1977), so that chains driven by the same noise never move apart.
    For every `c` and `step < 2` it is stable, and the moments of `x` are exact, where `F` is quadratic;
    elsewhere they are biased by `O(h^4)` with `c = 0` and `O(h^2)` otherwise. `c` near `0.9` forgets its
    start in about the square root of the steps that `c = 0` needs when `F` is ill conditioned, but its
    stability is proven for quadratic `F` only.

    Stopping rule: rounds of doubling length, each starting where the last one ended, of which only
    the last counts, and never the first. Its `2 chains` half-chains have means whose variance gives
    the standard error of the overall mean, and the run ends when the rms of that is at most `tol`
    times the rms of the standard deviation. Split R-hat is then at most
    `(1 - 2 chains tol^2)^{-1/2}`: 1.04 by default.

    :param starts: `(B chains, ...)`, the chains of one distribution next to each other; spread wider
        than the distribution, or R-hat says nothing.
    :param temperature: `T > 0`, 0-dim or one per start.
    :param step: in units of `1 / L`, in `(0, 2)`.
    :param persistence: share of the velocity that a step keeps, in `[0, 1)`.
    :param callback: called after every round with the steps so far and `relative_error`.
    :raises ValueError: no proven Lipschitz constant, or settings that make no sense.
    """
    heat = torch.as_tensor(temperature, dtype=torch.float64, device=starts.device)
    if (
        not (0 < step < 2 and 0 <= persistence < 1)
        or chains < 2
        or tol <= 0
        or max_steps < 2
        or not bool((heat > 0).all())
        or starts.shape[0] % chains
    ):
        raise ValueError(
            f"sampling needs 0 < step < 2, 0 <= persistence < 1, 2 chains or more, tol > 0, 2 steps or "
            f"more, a positive temperature and starts for every chain; got {step}, {persistence}, {chains}, "
            f"{tol}, {max_steps}, {temperature} and {starts.shape[0]} starts"
        )
    lipschitz = objective.lipschitz(starts).double().to(starts.device).expand(starts.shape[0])
    if not torch.isfinite(lipschitz).all():
        raise ValueError(
            "the objective has no proven Lipschitz constant, so no step is proven to be stable"
        )
    scheme = _Scheme(
        objective,
        starts,
        (2 * step / lipschitz).sqrt(),
        persistence,
        heat.expand(starts.shape[0]),
        generator,
    )
    length, steps = min(_FIRST_ROUND, max_steps), 0
    while True:
        halves = [scheme.run(length // 2) for _ in range(2)]
        steps += 2 * (length // 2)
        first = steps <= length
        moments = _combine(halves, chains, length // 2, steps, 0.0 if first else tol)
        if callback is not None:
            callback(steps, moments.relative_error)
        if bool(moments.converged.all()) or steps + 2 * length > max_steps:
            return moments
        length *= 2


class _Scheme:
    """The chains: where they are, how fast they move, and the gradient there."""

    def __init__(
        self,
        objective: Objective,
        starts: Tensor,
        time_step: Tensor,
        persistence: float,
        temperature: Tensor,
        generator: torch.Generator | None,
    ) -> None:
        self.objective, self.generator, self.origin = objective, generator, starts
        self.half = per_image((time_step / 2).to(starts.dtype), starts)
        self.persistence = persistence
        thermal = temperature.sqrt()
        kick = thermal * (1 - persistence**2) ** 0.5
        self.kick = per_image(kick.to(starts.dtype), starts)
        self.x, self.v = starts, per_image(thermal.to(starts.dtype), starts) * self._normal()
        self.grad = self._gradient()

    def _normal(self) -> Tensor:
        return torch.empty_like(self.origin).normal_(generator=self.generator)

    @torch.no_grad()
    def _gradient(self) -> Tensor:
        return self.objective.value_and_grad(self.x)[1]

    def run(self, count: int) -> tuple[Tensor, Tensor]:
        """`count` steps; the mean and the variance of each chain over them, in float64."""
        total = torch.zeros_like(self.x, dtype=torch.float64)
        square = torch.zeros_like(total)
        for _ in range(count):
            v = self.v - self.half * self.grad
            x = self.x + self.half * v
            v = self.persistence * v + self.kick * self._normal()
            self.x = x + self.half * v
            self.grad = self._gradient()
            self.v = v - self.half * self.grad
            offset = (self.x - self.origin).double()
            total += offset
            square += offset.square()
        mean = total / count
        return self.origin + mean, square / count - mean.square()


def _combine(
    halves: list[tuple[Tensor, Tensor]], chains: int, count: int, steps: int, tol: float
) -> Moments:
    """Pool the half-chains (Gelman et al. 2013, section 11.4)."""
    means, variances = (
        torch.cat([part.unflatten(0, (-1, chains)) for part in parts], 1)
        for parts in zip(*halves, strict=True)
    )
    within = variances.mean(1) * count / max(count - 1, 1)
    between = means.var(1)
    variance = within * (count - 1) / count + between
    error = between / means.shape[1]
    relative, r_hat = (
        (part.flatten(1).mean(1) / whole.flatten(1).mean(1)).sqrt()
        for part, whole in ((error, variance), (variance, within))
    )
    return Moments(
        means.mean(1), variance.sqrt(), error.sqrt(), relative, r_hat, steps, relative <= tol
    )
