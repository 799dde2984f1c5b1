"""The front of cost against quality: convex models, and one of them with fewer and fewer filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from pandas import DataFrame
from torch import Tensor
from tqdm import tqdm

from benchmarks import rates
from benchmarks.harness.clock import alternating, one_thread, processor_seconds
from benchmarks.harness.datasets import open_images
from benchmarks.harness.drawing import canvas, labelled, ticks_of_seconds
from benchmarks.harness.options import Options
from benchmarks.harness.records import write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from benchmarks.methods.models import gradient_module
from benchmarks.problems.table import Measurement, problems
from convexreg import Model, Reconstruction, load_model, pretrained_names, reconstruct
from convexreg.models.files import aside
from convexreg.regularizer import ConvexRegularizer

KEPT = (48, 32, 24, 16, 8)
CROP, SIGMA = 256, 25 / 255
SHOWN = "noise-25"


@register
class Front(Benchmark):
    """Denoising at the default tolerance; all models alternate on every image, on one thread.

    The first model, or the first that `--methods` names, is also taken with its strongest groups only,
    without training. Which those are is seen on reconstructions of the tuning images.
    """

    name = "front"
    description = "Processor seconds against PSNR of convex models, and of one with fewer filters"
    file = "solves.csv"
    numbers = ("pixels", "seconds", "evaluations", "psnr")
    adds_up = False

    def run(self, options: Options, folder: Path) -> None:
        limit, tuning_limit, crop, tuning_crop = (
            (1, 1, 24, 24)
            if options.tiny
            else (options.limit, options.tuning_limit, options.crop or CROP, options.tuning_crop)
        )
        images = open_images(options.images or "photographs", limit=limit, crop=crop)
        source = options.tuning_images or "tuning-photographs"
        tuning = [x for _, x in open_images(source, limit=tuning_limit, crop=tuning_crop)]
        chosen = problems("denoising", options.problems)
        with one_thread():
            models = _models(options, tuning)
            rates.measure(
                models,
                side=crop,
                sigma=SIGMA,
                repeats=options.repeats,
                file=folder / "rates.csv",
            )
            rows: list[dict[str, object]] = []
            cases = [(problem, number) for problem in chosen for number in range(len(images))]
            for problem, number in tqdm(cases, disable=None):
                name, image = images[number]
                measured = _measure(problem.measure(image, number), models, options.repeats)
                rows += [{"problem": problem.name, "image": name, **row} for row in measured]
                write_rows(folder / self.file, rows)

    def tables(self, folder: Path) -> list[Table]:
        rows = self.rows(folder)
        evaluation = rates.read(folder / "rates.csv").set_index("what")
        shown, lines = _shown(rows), []
        for name, its in shown.groupby("model", sort=False):
            psnr = rows[rows["model"] == name].groupby("problem", sort=False)["psnr"].mean()
            lines.append(
                {
                    "model": name,
                    "filters": its["filters"].iloc[0],
                    "groups": its["groups"].iloc[0],
                    "ns per pixel and evaluation": f"{evaluation['nanoseconds'][name]:.1f}",
                    "evaluations": f"{its['evaluations'].mean():.1f}",
                    "seconds per megapixel": f"{_per_megapixel(its):.3g}",
                    **{f"PSNR, {problem}": f"{mean:.2f}" for problem, mean in psnr.items()},
                    "not converged": f"{(rows[rows['model'] == name]['converged'] != 'True').sum()}",
                }
            )
        note = (
            f"Means over {rows['image'].nunique()} images of {rows['pixels'].mean():.0f} pixels on average; "
            f"evaluations and seconds of a solve are those at {shown['problem'].iloc[0]}. Processor seconds on one "
            "thread, the least of alternating runs. A number behind a name: so many groups are left, untrained."
        )
        return [Table("Cost against quality", DataFrame(lines), note)]

    def headline(self, folder: Path) -> list[Table]:
        return self.tables(folder)

    def figures(self, folder: Path) -> list[Figure]:
        rows = _shown(self.rows(folder))
        x, problem = "processor seconds per megapixel", rows["problem"].iloc[0]
        figure, axes = canvas(title=f"{problem}: quality against time", x=x, y="PSNR, dB")
        axes.set_xscale("log")
        ticks_of_seconds(axes)
        for name, its in rows.groupby("model", sort=False):
            labelled(axes, [_per_megapixel(its)], [its["psnr"].mean()], [str(name)])
        return [Figure("front", f"Mean PSNR of convex models against {x}: {problem}.", figure)]


def _shown(rows: DataFrame) -> DataFrame:
    """Those at noise 25, or at the first level that there is."""
    there = rows["problem"].unique()
    return rows[rows["problem"] == (SHOWN if SHOWN in there else there[0])]


def _per_megapixel(rows: DataFrame) -> float:
    return 1e6 * rows["seconds"].sum() / rows["pixels"].sum()


def _models(options: Options, tuning: Sequence[Tensor]) -> dict[str, ConvexRegularizer]:
    """The convex models and the pruned ones.

    :raises ValueError: a file whose model is adaptive.
    """
    paths = {Path(path).stem: path for path in options.models}
    shipped = {name: load_model(name) for name in pretrained_names()}
    table = {name: model for name, model in shipped.items() if not model.config.adaptive}
    table |= {name: load_model(path) for name, path in paths.items()}
    table = selected(table, options.methods, "model")
    first = table[(*options.methods, *table)[0]]
    models: dict[str, ConvexRegularizer] = {}
    for name, model in table.items():
        if not isinstance(model.regularizer, ConvexRegularizer):
            raise ValueError(f"{name} is adaptive; the front is that of convex models")
        models[name] = model.regularizer
    forces = strengths(first.regularizer, tuning)
    for count in KEPT[-1:] if options.tiny else KEPT:
        if count < len(forces):
            twin = pruned(first, forces.topk(count).indices)
            models[twin.name] = twin
    return models


def strengths(regularizer: object, images: Sequence[Tensor]) -> Tensor:
    """Rms force `scale |w| weight psi'` of every group over all pixels of reconstructions at noise 25.

    :param images: clean, `(1, H, W)`.
    :raises ValueError: a regularizer that is not one convolution and one potential.
    """
    found = gradient_module(regularizer) if isinstance(regularizer, ConvexRegularizer) else None
    if found is None:
        raise ValueError("only a model of one gradient module can be pruned")
    module, operator = found
    norms = operator.kernel.flatten(1).norm(dim=1)
    squares = []
    for number, image in enumerate(images):
        m = problems("denoising", (SHOWN,))[0].measure(image, number)
        x = reconstruct(m.y, m.physics, sigma=m.sigma, regularizer=regularizer).image
        z, scale, weight = module.argument(x, m.sigma)
        force = module.phi.grad(z, weight) if scale is None else scale * module.phi.grad(z, weight)
        squares.append((force * norms[:, None, None]).square().mean((0, 2, 3)))
    return torch.stack(squares).mean(0).unflatten(0, (module.terms, -1)).sum(1).sqrt()


def pruned(model: Model, groups: Tensor) -> ConvexRegularizer:
    """The model with these groups of its filters only."""
    config, state = model.config, dict(model.regularizer.state_dict())
    count = config.channels[-1]
    of_group = torch.arange(count).unflatten(0, (-1, _group_size(model)))
    filters = of_group[groups].flatten()
    last = f"operator.kernels.{len(config.kernel_sizes) - 1}"
    for key, value in state.items():
        if key.endswith(last):
            state[key] = value[filters]
        elif key.endswith("log_threshold"):
            state[key] = value[:, filters]
        elif key.endswith("log_slope"):
            state[key] = value[:, groups]
    fewer = replace(config, channels=(*config.channels[:-1], len(filters)))
    with aside():
        twin = fewer.build(f"{model.regularizer.name}-{len(groups)}")
    twin.load_state_dict(state)
    return twin.eval().requires_grad_(False)


def _group_size(model: Model) -> int:
    return model.config.group_size if model.config.architecture == "mgradnet-m" else 1


def _measure(
    measurement: Measurement, models: dict[str, ConvexRegularizer], repeats: int
) -> list[dict[str, object]]:
    """A row per model."""
    m, results = measurement, dict[str, Reconstruction]()

    def run(name: str) -> None:
        results[name] = reconstruct(m.y, m.physics, sigma=m.sigma, regularizer=models[name])

    runs: dict[str, Callable[[], float]] = {
        name: partial(processor_seconds, partial(run, name)) for name in models
    }
    times = alternating(runs, repeats)
    rows = []
    for name, result in results.items():
        module = gradient_module(models[name])
        filters, groups = ("", "") if module is None else (module[1].out_channels, module[0].terms)
        rows.append(
            {
                "model": name,
                "filters": filters,
                "groups": groups,
                "pixels": m.y[0, 0].numel(),
                "seconds": f"{min(times[name]):.4f}",
                "evaluations": f"{float(result.evaluations):g}",
                "psnr": f"{m.psnr(result.image):.3f}",
                "converged": result.converged,
            }
        )
    return rows
