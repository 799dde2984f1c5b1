"""A line search along the bounds of a box, every image by its own steps."""

from __future__ import annotations

import torch
from torch import Tensor

from .batch import inner, per_image
from .box import Box
from .contradictions import Evaluation, contradict_convexity
from .objective import Objective


class LineSearch:
    """A search for a better point, image by image: what it found, and what it spent and saw.

    :param start: value and gradient where it begins.
    :param constant: largest Lipschitz constant seen so far, see `contradict_convexity`.
    :ivar pending: images without a new point; they keep theirs.
    :ivar violated: images of which a trial contradicts convexity.
    """

    def __init__(self, objective: Objective, start: Evaluation, constant: Tensor, box: Box) -> None:
        self.objective, self.start, self.box = objective, start, box
        self.x, self.value, self.grad = start.x, start.value, start.grad
        self.constant = constant
        self.trials = torch.zeros_like(start.value)
        self.violated = torch.zeros_like(start.value, dtype=torch.bool)
        self.pending = ~self.violated

    def along(
        self, direction: Tensor, slope: Tensor, free: Tensor, armijo: float, halvings: int
    ) -> None:
        """The first `P(x - t direction)`, `t = 1, 1/2, ...`, with enough decrease, else the proven step.

        An image for which neither is found has a value of NaN if the last trial's was not finite.
        """
        start, t = self.start, torch.ones_like(slope)
        rounding = 4 * torch.finfo(self.x.dtype).eps * start.value.abs() / self.x[0].numel() ** 0.5
        last = start.value
        for _ in range(halvings):
            trial = self._evaluate(start.x - per_image(t.to(self.x.dtype), self.x) * direction)
            last = trial.value
            bound = inner((1 - free) * start.grad, start.x - trial.x)
            limit = start.value - armijo * (t * slope + bound) + rounding
            self._accept(trial, last <= limit)
            if not self.pending.any():
                return
            t = t / 2
        proven = self.objective.lipschitz(start.x).to(slope).expand_as(slope)
        self.pending, lost = self.pending & proven.isfinite(), self.pending & ~last.isfinite()
        if self.pending.any():
            step = per_image((1 / proven).to(self.x.dtype), self.x) * start.grad
            trial = self._evaluate(start.x - step)
            self._accept(trial, trial.value < start.value)
            lost = lost & (self.pending | ~proven.isfinite())
        # no step however short gives a number: that is not stagnation
        self.value = torch.where(lost, float("nan"), self.value)

    def _evaluate(self, x: Tensor) -> Evaluation:
        x = self.box.project(x)
        trial = Evaluation(x, *self.objective.value_and_grad(x))
        self.trials = self.trials + self.pending.double()
        violated, constant = contradict_convexity(self.objective, self.start, trial, self.constant)
        # an image that has its point sees no more trials: it would not alone either
        self.violated = self.violated | (violated & self.pending)
        self.constant = torch.where(self.pending, constant, self.constant)
        return trial

    def _accept(self, trial: Evaluation, enough: Tensor) -> None:
        accepted = self.pending & enough
        self.pending = self.pending & ~enough
        if bool(accepted.all()):
            self.x, self.value, self.grad = trial.x, trial.value, trial.grad
            return
        where = per_image(accepted, self.x)
        self.x = torch.where(where, trial.x, self.x)
        self.grad = torch.where(where, trial.grad, self.grad)
        self.value = torch.where(accepted, trial.value, self.value)
