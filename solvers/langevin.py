"""Mean and standard deviation of `exp(-F / T)` by Langevin sampling, with a rule that says when to stop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .batch import inner, per_image
from .moments import Moments, Visit
from .objective import Objective
from .precision import without_autocast

_FIRST_ROUND, _FIRST_SHORT_ROUND = 256, 32
_POWER_STEPS = 10
_BIASED, _HALVINGS = 0.02, 6
"""How far the energy of the chains may be off before the step is halved, and how often it is."""


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
    proven: bool = True,
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

    The proven `L` is the largest curvature anywhere, tens of times that of places where the density is: with
    `proven=False` it is instead the largest curvature at the starts, by power iteration, a lower bound at
    these points. Nothing is proven of stability then; the step is halved, and the chains begin again, where
    the mean energy of the chains is off by more than 2 % (`Moments.equipartition`), which is what a step that
    is too long changes first.

    Stopping rule: rounds of doubling length, each starting where the last one ended, of which only
    the last counts, and never the first. Its `2 chains` half-chains have means whose variance gives
    the standard error of the overall mean, and the run ends when the rms of that, and of the error of the
    standard deviation, is at most `tol` times the rms of the standard deviation. Split R-hat is then at most
    `(1 - 2 chains tol^2)^{-1/2}`: 1.04 by default.

    :param starts: `(B chains, ...)`, the chains of one distribution next to each other; spread wider
        than the distribution, or R-hat says nothing.
    :param temperature: `T > 0`, 0-dim or one per start.
    :param step: in units of `1 / L`, in `(0, 2)`.
    :param proven: whether the step rests on the proven `L`.
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
    if proven:
        largest = objective.lipschitz(starts).double().to(starts.device).expand(starts.shape[0])
        if not torch.isfinite(largest).all():
            raise ValueError(
                "the objective has no proven Lipschitz constant, so no step is proven to be stable"
            )
    else:
        largest = _curvature(objective, starts, generator)
    heat, steps = heat.expand(starts.shape[0]), 0
    for halving in range(_HALVINGS + 1):
        scheme = _Scheme(
            objective,
            starts,
            (2 * step / largest).sqrt() / 2**halving,
            persistence,
            heat,
            generator,
        )
        length = min(_FIRST_ROUND if proven else _FIRST_SHORT_ROUND, max_steps)
        begun = steps
        while True:
            halves = [scheme.run(length // 2) for _ in range(2)]
            steps += 2 * (length // 2)
            first = steps - begun <= length
            moments = Moments.pooled(halves, chains, length // 2, steps, 0.0 if first else tol)
            clearly = moments.equipartition_error * 3 + _BIASED
            off = ~((moments.equipartition - 1).abs() <= clearly)
            biased = not proven and not first and halving < _HALVINGS and bool(off.any())
            if callback is not None:
                callback(steps, moments.relative_error)
            if bool(moments.converged.all()) or biased or steps + 2 * length > max_steps:
                break
            length *= 2
        if not biased or steps + 2 * _FIRST_SHORT_ROUND > max_steps:
            break
    return moments


@torch.no_grad()
def _curvature(objective: Objective, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """The largest curvature at `x` from below, `(B,)` in float64, by power iteration on gradients."""
    direction = torch.empty_like(x).normal_(generator=generator)
    size = inner(x, x).sqrt()
    reach = torch.finfo(x.dtype).eps ** (1 / 3) * torch.where(size > 0, size, 1.0)
    found = torch.ones_like(reach)
    for _ in range(_POWER_STEPS):
        length = inner(direction, direction).sqrt()
        shift = per_image((reach / length).to(x.dtype), x) * direction
        change = objective.grad(x + shift) - objective.grad(x - shift)
        found = inner(change, change).sqrt() / (2 * reach)
        direction = change
    return found


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
        self.persistence, self.temperature = persistence, temperature
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

    def run(self, count: int) -> Visit:
        """`count` steps, and what every chain has seen in them, in float64."""
        total = torch.zeros_like(self.x, dtype=torch.float64)
        square = torch.zeros_like(total)
        energy = torch.zeros_like(self.temperature)
        for _ in range(count):
            v = self.v - self.half * self.grad
            x = self.x + self.half * v
            v = self.persistence * v + self.kick * self._normal()
            self.x = x + self.half * v
            self.grad = self._gradient()
            self.v = v - self.half * self.grad
            offset = self.x - self.origin
            energy += inner(offset, self.grad)
            offset = offset.double()
            total += offset
            square += offset.square()
        mean = total / count
        pixels = self.x[0].numel()
        return Visit(
            self.origin + mean,
            square / count - mean.square(),
            energy / (count * pixels * self.temperature),
        )
