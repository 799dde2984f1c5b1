"""What `convexreg.reconstruction.from_measurements` costs and proves, as users call it, on every problem."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.harness.datasets import open_images
from benchmarks.harness.options import Options
from benchmarks.harness.records import read_rows, write_rows
from benchmarks.harness.registry import Benchmark, Table, register, selected
from benchmarks.problems.table import PROBLEMS, Measurement
from convexreg import Reconstruction, reconstruct
from convexreg.adaptive import AdaptiveRegularizer
from convexreg.models.files import as_model
from convexreg.solvers import (
    LeastSquares,
    Objective,
    Progress,
    Proximity,
    QuasiNewton,
    Sum,
    minimise,
)
from convexreg.training.objectives import psnr

MODELS = ("mgradnet-m", "mgradnet-m-adaptive")
TUNED = {
    "gaussian-0.01": (0.1773, 0.1365),
    "gaussian-0.03": (0.2625, 0.1933),
    "uniform-0.01": (0.1698, 0.1298),
    "uniform-0.03": (0.1862, 0.1365),
    "motion-0.01": (0.3229, 0.3229),
    "motion-0.03": (0.311, 0.2729),
    "inpainting": (1.19, 0.6791),
    "super-resolution": (0.5459, 0.2962),
    "mri": (1.244, 0.5924),
    "tomography": (0.2866, 0.2033),
    "limited-angle": (0.3253, 0.1936),
}
"""Weights that tuning chose for the two models (`results/deblurring`, `results/physics`)."""
CROP, MAX_ITERATIONS = 96, 400
CERTIFIED, TRUE = (1e-2, 1e-3, 1e-4), (1e-2, 1e-3, 1e-4)


@dataclass(frozen=True)
class Iterate:
    """A point of the last round, what it cost so far in all rounds, and what is proven of it."""

    x: Tensor
    evaluations: float
    certified: float


@register
class Defaults(Benchmark):
    """`reconstruct(y, physics, sigma=..., regularizer=..., lam=...)` with everything else left alone.

    A first run, timed, ends where the default tolerance says. A second one goes on to a certified relative
    gap of 1e-4 (or to the limit) with every iterate kept; its gaps are measured against a float64 minimum
    of the same objective. Weights are the default and, where there is one, what tuning chose.
    """

    name = "defaults"
    description = (
        "reconstruct as users call it: evaluations, certified and true gaps, seconds, PSNR"
    )
    adds_up = False

    def run(self, options: Options, folder: Path) -> None:
        images = open_images(
            options.images or "photographs",
            limit=options.limit or 1,
            crop=options.crop or (24 if options.tiny else CROP),
        )
        chosen = selected(PROBLEMS, options.problems, "problem")
        models = selected({name: name for name in MODELS}, options.methods, "model")
        rows: list[dict[str, object]] = []
        cases = [(p, m, i) for p in chosen for m in models for i in range(len(images))]
        for name, model, number in tqdm(cases[:2] if options.tiny else cases, disable=None):
            measurement = PROBLEMS[name].measure(images[number][1], number, device=options.device)
            key = name.removesuffix("-circular").removesuffix("-valid")
            weights: dict[str, Any] = {"default": "auto"}
            if key in TUNED:
                weights["tuned"] = TUNED[key][MODELS.index(model)]
            for label, weight in weights.items():
                rows.append(
                    {
                        "problem": name,
                        "model": model,
                        "image": images[number][0],
                        "weight": label,
                        **_measure(measurement, model, weight),
                    }
                )
                write_rows(folder / "defaults.csv", rows)

    def tables(self, folder: Path) -> list[Table]:
        rows = read_rows(folder / "defaults.csv")
        return [Table("reconstruct at its defaults", rows)] if rows else []


def _measure(measurement: Measurement, model: str, weight: Any) -> dict[str, object]:
    """One row of the table."""
    began = time.process_time()
    usual = _reconstruct(measurement, model, weight)
    seconds = time.process_time() - began
    iterates: list[Iterate] = []
    before = 0.0 if usual.first is None else float(usual.first.evaluations)

    def keep(progress: Progress) -> None:
        if progress.iteration == 1:  # of the last round: that of the first one is dropped
            iterates.clear()
        spent = float(progress.state.evaluations) + before
        iterates.append(Iterate(progress.state.x, spent, float(progress.relative_gap)))

    longer = _reconstruct(
        measurement, model, weight, gap_tol=1e-4, max_iter=MAX_ITERATIONS, callback=keep
    )
    objective, minimum = _reference(measurement, model, longer)
    values = {i: float(objective.value(p.x.double())) for i, p in enumerate(iterates)}
    floor = min(minimum, *values.values())
    true = [(values[i] - floor) / floor for i in range(len(iterates))]
    at_end = (float(objective.value(usual.image.double())) - floor) / floor
    certified = float(usual.certificate.relative_gap)
    row: dict[str, object] = {
        "lam": f"{float(usual.lam):.4g}",
        "converged": usual.converged,
        "iterations": int(usual.iterations),
        "evaluations": f"{before + float(usual.evaluations):g}",
        "certified_gap": f"{certified:.2e}",
        "true_gap": f"{at_end:.2e}",
        "certified_over_true": f"{certified / at_end:.3g}" if at_end > 0 else "",
        "cpu_seconds": f"{seconds:.2f}",
        "psnr": f"{float(psnr(usual.image, measurement.clean)):.3f}",
    }
    for bound in CERTIFIED:
        reached = [p.evaluations for p in iterates if p.certified <= bound]
        row[f"evaluations_to_certified_{bound:.0e}"] = f"{reached[0]:g}" if reached else ""
    for bound in TRUE:
        reached = [p.evaluations for p, gap in zip(iterates, true, strict=True) if gap <= bound]
        row[f"evaluations_to_true_{bound:.0e}"] = f"{reached[0]:g}" if reached else ""
    return row


def _reconstruct(
    measurement: Measurement, model: str, weight: Any, **options: Any
) -> Reconstruction:
    return reconstruct(
        measurement.y,
        measurement.forward.physics,
        sigma=measurement.sigma,
        regularizer=model,
        lam=weight,
        **options,
    )


def _reference(
    measurement: Measurement, model: str, result: Reconstruction
) -> tuple[Objective, float]:
    """The objective of the last round in float64, and its minimum."""
    from convexreg.reconstruction.start import starting_image

    m = measurement
    height, width = m.clean.shape[-2:]
    forward = m.problem.build(height, width, torch.float64, str(m.clean.device))
    regularizer, sigma = as_model(model), torch.tensor([m.sigma], dtype=torch.float64)
    if isinstance(regularizer, AdaptiveRegularizer):
        assert result.first is not None
        start = result.first.image
        regularizer = regularizer.given(start, sigma)
    else:
        start = starting_image(m.y, m.forward.physics, m.sigma)
    exact = copy.deepcopy(regularizer).double()
    objective = Sum(
        [
            LeastSquares(forward.physics, m.y.double(), forward.bounds),
            exact.term(sigma),
            Proximity(start.double()),
        ],
        [1.0, result.lam, result.anchor],
    )
    solution = minimise(
        objective,
        result.image.double(),
        QuasiNewton(memory=30, refresh=(2, 20, 80)),
        gtol=3e-9,
        max_iter=300,
        throw=False,
    )
    return objective, float(objective.value(solution.x))
