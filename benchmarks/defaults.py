"""What `reconstruct` costs and proves, as users call it, on every problem."""

from __future__ import annotations

import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from pandas import DataFrame
from tqdm import tqdm

from benchmarks.harness.datasets import open_images
from benchmarks.harness.options import Options
from benchmarks.harness.records import write_rows
from benchmarks.harness.registry import Benchmark, Table, register, selected
from benchmarks.problems.table import PROBLEMS, Measurement
from convexreg import reconstruct
from convexreg.reconstruction.defaults import Tolerance
from convexreg.solvers import Progress, QuasiNewton

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
BOUNDS = (1e-1, 1e-2, 1e-3, 1e-4)


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
    file = "defaults.csv"
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
            case = {"problem": name, "model": model, "image": images[number][0]}
            for label, weight in weights.items():
                rows.append({**case, "weight": label, **_measure(measurement, model, weight)})
                write_rows(folder / self.file, rows)

    def tables(self, folder: Path) -> list[Table]:
        return [Table("reconstruct at its defaults", self.rows(folder))]


def _measure(measurement: Measurement, model: str, weight: Any) -> dict[str, object]:
    """One row of the table."""
    m = measurement
    call = partial(reconstruct, m.y, m.physics, sigma=m.sigma, regularizer=model, lam=weight)
    began = time.process_time()
    usual = call()
    seconds = time.process_time() - began
    before = sum(float(each.evaluations) for each in usual.rounds[:-1])
    iterates: list[Progress] = []

    def keep(progress: Progress) -> None:
        if progress.iteration == 1:  # of the last round: that of the first one is dropped
            iterates.clear()
        iterates.append(progress)

    longer = call(gap_tol=1e-4, max_iter=MAX_ITERATIONS, callback=keep)
    exact, there = longer.problem.exact(longer.image), longer.image.double()
    solver = QuasiNewton(memory=30, refresh=(2, 20, 80))
    best = exact.minimise(
        there, tolerance=Tolerance(gtol=3e-9), solver=solver, max_iter=300, throw=False
    )
    value = exact.objective.value
    trace = DataFrame(
        {
            "evaluations": [before + float(p.evaluations) for p in iterates],
            "certified": [float(p.relative_gap) for p in iterates],
            "value": [float(value(p.x.double())) for p in iterates],
            "psnr": [m.psnr(p.x) for p in iterates],
        }
    )
    floor = min(float(value(best.x)), trace["value"].min())
    trace["true"] = trace["value"] / floor - 1
    at_end = float(value(usual.image.double())) / floor - 1
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
        "psnr": f"{m.psnr(usual.image):.3f}",
    }
    for kind, bound in product(("certified", "true"), BOUNDS):
        reached = trace[trace[kind] <= bound]
        first = reached.iloc[0] if len(reached) else None
        row[f"evaluations_to_{kind}_{bound:.0e}"] = (
            "" if first is None else f"{first.evaluations:g}"
        )
        row[f"psnr_at_{kind}_{bound:.0e}"] = "" if first is None else f"{first.psnr:.3f}"
    return row
