"""The certified reconstruction as a reconstructor of deepinv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from deepinv.models import Reconstructor
from torch import Tensor

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.models.config import AnyRegularizer
from convexreg.models.files import DEFAULT_MODEL, regularizer_of
from convexreg.reconstruction.from_measurements import Reconstruction, reconstruct
from convexreg.reconstruction.start import starting_image
from convexreg.solvers.curvature import Preconditioner
from convexreg.solvers.data_terms import LeastSquares, Proximity
from convexreg.solvers.implicit import ImplicitSolution
from convexreg.solvers.loop import Progress
from convexreg.solvers.objective import Sum
from convexreg.solvers.physics_norms import OperatorBounds
from convexreg.training.objectives import psnr

Metrics = dict[str, list[list[float]]]


class ConvexReconstructor(Reconstructor):
    """`reconstruct` as a deepinv reconstructor: `model(y, physics)`, in `deepinv.test` and `Trainer`.

    The output is differentiable in the measurements and the parameters of the regularizer, through
    the optimality condition (`solvers.implicit`); the weights of shipped models are frozen, train
    them after `model.requires_grad_()`. Of an adaptive regularizer the second round is
    differentiated, the reconstruction of the first one is taken as given.

    :param regularizer: a regularizer, the name of a shipped model or the path of a model file.
    :param sigma: noise level; taken from `physics.noise_model.sigma` when omitted.
    :param options: passed on to `convexreg.reconstruction.from_measurements`.
    """

    def __init__(
        self,
        regularizer: AnyRegularizer | str | Path = DEFAULT_MODEL,
        *,
        sigma: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.regularizer = regularizer_of(regularizer)
        self.sigma, self.options = sigma, options

    def forward(
        self,
        y: Tensor,
        physics: Any,
        x_gt: Tensor | None = None,
        compute_metrics: bool = False,
        **kwargs: Any,
    ) -> Tensor | tuple[Tensor, Metrics]:
        """The reconstruction `(B, C, H, W)`, or with `compute_metrics` a pair of it and the metrics.

        :param x_gt: the true image, for the PSNR.
        :return: metrics are lists per image, one number per iteration until the image has converged:
            `residual` (relative change), `relative_gap` (certified), `cost` where the solver knows
            it, `psnr` (the start's comes first; empty without `x_gt`).
        :raises ValueError: no noise level given, and none in the physics.
        """
        sigma = self.sigma
        if sigma is None:
            sigma = getattr(getattr(physics, "noise_model", None), "sigma", None)
        if sigma is None:
            raise ValueError("give sigma: the physics has no Gaussian noise model to take it from")
        differentiated = torch.is_grad_enabled() and any(
            tensor.requires_grad for tensor in (y, *self.regularizer.parameters())
        )
        options = dict(self.options)
        if compute_metrics or differentiated:
            start = options.get("x0")
            start = starting_image(y, physics, sigma) if start is None else start.to(y)
            options["x0"] = start.detach()
        metrics = _Metrics(options["x0"], x_gt) if compute_metrics else None
        followers = [f for f in (options.pop("callback", None), metrics) if f is not None]

        def follow(progress: Progress) -> None:
            for follower in followers:
                follower(progress)

        result = reconstruct(
            y.detach(),
            physics,
            sigma=sigma,
            regularizer=self.regularizer,
            callback=follow,
            **options,
        )
        image = result.image
        if differentiated:
            image = self._differentiable(result, y, physics, sigma, start)
        return image if metrics is None else (image, metrics.record)

    def _differentiable(
        self, result: Reconstruction, y: Tensor, physics: Any, sigma: Any, start: Tensor
    ) -> Tensor:
        """The image with the derivative of the exact minimiser.

        :raises ValueError: a box, where the minimiser is not differentiable, or another fidelity.
        """
        if not result.box.everything:
            raise ValueError(
                "the derivative of a reconstruction is available without a box only; train without "
                "one, or evaluate under torch.no_grad()"
            )
        if self.options.get("fidelity") is not None:
            raise ValueError(
                "the derivative of a reconstruction is available for |A x - y|^2 / 2 only; train without "
                "another fidelity, or evaluate under torch.no_grad()"
            )
        regularizer = self.regularizer
        if isinstance(regularizer, AdaptiveRegularizer):
            assert result.first is not None
            start = result.first.image
            regularizer = regularizer.given(start, sigma)
        objective = Sum(
            [
                LeastSquares(physics, y, OperatorBounds(float("inf"))),
                regularizer.term(sigma),
                Proximity(start),
            ],
            [1.0, result.lam, result.anchor],
        )
        with torch.no_grad():
            curvature = objective.curvature(result.image)
        derivative = ImplicitSolution(
            preconditioner=None if curvature is None else Preconditioner(curvature)
        )
        return derivative.attach(lambda x: objective.value_and_grad(x)[1], result.image)


class _Metrics:
    """Collects deepinv's metrics dictionary; every image's list ends with its solve."""

    def __init__(self, start: Tensor, x_gt: Tensor | None) -> None:
        self.x_gt = x_gt
        self.running = [True] * start.shape[0]
        self.record: Metrics = {"psnr": [[] for _ in start], "residual": [[] for _ in start]}
        if x_gt is not None:
            self._append("psnr", psnr(start, x_gt))

    def __call__(self, progress: Progress) -> None:
        state = progress.state
        if progress.iteration == 1:  # of the only round, or of the second one
            self.running = [True] * len(self.running)
        self._append("residual", state.step_size)
        self._append("relative_gap", progress.relative_gap)
        value = getattr(state, "value", None)  # FISTA does not evaluate its iterates
        if value is not None:
            self._append("cost", value)
        if self.x_gt is not None:
            self._append("psnr", psnr(state.x, self.x_gt))
        self.running = progress.active.tolist()

    def _append(self, name: str, values: Tensor) -> None:
        lists = self.record.setdefault(name, [[] for _ in self.running])
        for history, number, running in zip(lists, values.tolist(), self.running, strict=True):
            if running:
                history.append(number)
