"""The certified reconstruction as a reconstructor of deepinv."""

from __future__ import annotations

from typing import Any

from deepinv.loss.metric import PSNR
from deepinv.models import Reconstructor
from torch import Tensor

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.models.files import DEFAULT_MODEL, regularizer_of
from convexreg.reconstruction.arrangement import arranged
from convexreg.reconstruction.from_measurements import reconstruct
from convexreg.reconstruction.noise import measurement_noise
from convexreg.reconstruction.start import starting_image
from convexreg.regularizer import Regularizer
from convexreg.solvers.progress import Progress

Metrics = dict[str, list[list[float]]]


class ConvexReconstructor(Reconstructor):
    """`reconstruct` as a deepinv reconstructor: `model(y, physics)`, in `deepinv.test` and `Trainer`.

    The output is differentiable in the measurements and the parameters of the regularizer, through
    the optimality condition (`solvers.implicit`), to any order, at the result after one Newton step; the
    weights of shipped models are frozen, train them after `model.requires_grad_()`. All rounds of an
    adaptive regularizer are differentiated, and solved to the same tolerance then.

    :param regularizer: a regularizer, the name of a shipped model or the path of a model file.
    :param sigma: noise level; that of the physics' noise model when omitted, if it is Gaussian, Poisson or
        both.
    :param options: passed on to `convexreg.reconstruct`.
    """

    def __init__(
        self,
        regularizer: Any = DEFAULT_MODEL,
        *,
        sigma: Tensor | float | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.regularizer = regularizer_of(regularizer)
        self.sigma, self.options = sigma, options

    def _usual_start(self, y: Any, physics: Any) -> Tensor:
        """Where `reconstruct` begins."""
        ours = isinstance(self.regularizer, (Regularizer, AdaptiveRegularizer))
        plan, sigma = arranged(physics, y, slices=ours), self.sigma
        if plan is None:
            return starting_image(y, physics, measurement_noise(sigma, physics, y).level)
        sigma, y = plan.sigma(sigma, y), plan.measurements(y)
        return plan.image(starting_image(y, plan, measurement_noise(sigma, plan, y).level))

    def forward(
        self,
        y: Any,
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
        options = dict(self.options)
        metrics = None
        if compute_metrics:
            start = options.get("x0")
            if start is None:
                start = self._usual_start(y, physics)
            metrics = _Metrics(start if x_gt is None else start.to(x_gt), x_gt)
        followers = [f for f in (options.pop("callback", None), metrics) if f is not None]

        def follow(progress: Progress) -> None:
            for follower in followers:
                follower(progress)

        result = reconstruct(
            y, physics, sigma=self.sigma, regularizer=self.regularizer, callback=follow, **options
        )
        image = result.differentiable()
        return image if metrics is None else (image, metrics.record)


class _Metrics:
    """Collects deepinv's metrics dictionary; every image's list ends with its solve."""

    def __init__(self, start: Tensor, x_gt: Tensor | None) -> None:
        self.x_gt = x_gt
        self.running = [True] * start.shape[0]
        self.record: Metrics = {"psnr": [[] for _ in start], "residual": [[] for _ in start]}
        if x_gt is not None:
            self._append("psnr", PSNR()(start, x_gt))

    def __call__(self, progress: Progress) -> None:
        if progress.iteration == 1:  # of the only round, or of the second one
            self.running = [True] * len(self.running)
        self._append("residual", progress.step_size)
        self._append("relative_gap", progress.relative_gap)
        if progress.value is not None:  # FISTA does not evaluate its iterates
            self._append("cost", progress.value)
        if self.x_gt is not None:
            self._append("psnr", PSNR()(progress.x, self.x_gt))
        self.running = progress.active.tolist()

    def _append(self, name: str, values: Tensor) -> None:
        lists = self.record.setdefault(name, [[] for _ in self.running])
        for history, number, running in zip(lists, values.tolist(), self.running, strict=True):
            if running:
                history.append(number)
