"""What adaptive weights gain and what they cost: sensitivity to the data, weight maps, failures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pandas import DataFrame
from torch import Tensor

from benchmarks.harness import drawing
from benchmarks.harness.datasets import open_images
from benchmarks.harness.options import Options
from benchmarks.harness.records import write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register
from benchmarks.methods.summary import mean_with_error
from benchmarks.problems.table import Measurement, named_problem
from convexreg import Reconstruction, reconstruct
from convexreg.adaptive import AdaptiveRegularizer
from convexreg.models.files import load_model
from convexreg.networks.weight_network import WeightNetwork
from convexreg.pictures.files import Photograph, read_image, write_image

# Accurate solves, so that differences of solutions are not differences of stopping.
GAP = 1e-11
# rms of a perturbation: far below the noise, far above the accuracy of the solves
PERTURBATION = 1e-3
POWER_ITERATIONS = 6
SHOWN_TERMS = 3
Map = Callable[[Tensor], Tensor]


@register
class Adaptivity(Benchmark):
    """Denoising with the adaptive model, with its weights frozen, and with its first round alone.

    The gain of a map `f` from data to image is `|f(y + d) - f(y)| / |d|`: for random `d`, and the
    largest met in power iterations, that is a lower bound on the Lipschitz constant. The map with
    frozen weights and the convex one are proximal operators, whose gains are proven to be at most one.
    """

    name = "adaptive"
    description = "Adaptive weights: sensitivity to the data, weight maps, failures"
    file = "gains.csv"
    numbers = ("psnr", "gain_random", "gain_largest")
    adds_up = False
    restricted_by = ("problems",)

    def run(self, options: Options, folder: Path) -> None:
        model = _adaptive(options)
        crop = options.crop or (24 if options.tiny else 96)
        limit = 1 if options.tiny else options.limit
        images = open_images(options.images or "photographs", limit=limit, crop=crop)
        names = options.problems or ("noise-5", "noise-15", "noise-25", "noise-50")
        rows = []
        for name in names[: 1 if options.tiny else None]:
            for number, (image_name, image) in enumerate(images):
                measurement = named_problem(name).measure(
                    image, number, dtype=torch.float64, device=options.device
                )
                rows += _row(model, measurement, image_name)
                if number == 0:
                    _draw_weights(model, measurement, folder)
                write_rows(folder / self.file, rows)

    def tables(self, folder: Path) -> list[Table]:
        rows = self.rows(folder)
        return [_quality(rows), _sensitivity(rows)]

    def headline(self, folder: Path) -> list[Table]:
        return [_sensitivity(self.rows(folder))]

    def figures(self, folder: Path) -> list[Figure]:
        problems = self.rows(folder)["problem"].unique()
        parts = ["reconstruction", "mean weight"]
        parts += [f"weight of term {term}" for term in range(SHOWN_TERMS)]
        figure, axes = drawing.panels(len(problems) * len(parts), len(parts), width=1.5, height=1.6)
        places = ((problem, part) for problem in problems for part in parts)
        for axis, (problem, part) in zip(axes, places, strict=True):
            pixels = read_image(folder / f"{problem}.{part.replace(' ', '-')}.png").pixels[0]
            axis.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
            axis.set_title(f"{problem}\n{part}", fontsize=6)
        caption = (
            "Weights of the second round on the first image, on a logarithmic scale over the range "
            "allowed: dark where the regularizer is told to act less."
        )
        return [Figure("weights", caption, figure)]


def _adaptive(options: Options) -> AdaptiveRegularizer:
    """The user's model or the shipped one, in float64.

    :raises ValueError: the user's model is not adaptive.
    """
    name = options.models[0] if options.models else "mgradnet-m-adaptive"
    model = load_model(name).regularizer
    if not isinstance(model, AdaptiveRegularizer):
        raise ValueError(f"{name} is not an adaptive model")
    return copy.deepcopy(model).double().to(options.device)


def _solve(regularizer: Any, measurement: Measurement, y: Tensor) -> Reconstruction:
    m = measurement
    return reconstruct(y, m.physics, sigma=m.sigma, regularizer=regularizer, gap_tol=GAP)


def _row(model: AdaptiveRegularizer, measurement: Measurement, image: str) -> list[dict]:
    """Quality and gains of the three maps on one image."""
    there = _first_round(model, measurement)
    maps: dict[str, Any] = {
        "convex": model.first,
        "adaptive, weights frozen": model.given(there, measurement.sigma),
        "adaptive": model,
    }
    rows = []
    for name, regularizer in maps.items():

        def solve(y: Tensor, regularizer: Any = regularizer) -> Tensor:
            return _solve(regularizer, measurement, y).image

        restored = solve(measurement.y)
        typical, largest = _gains(solve, measurement.y, restored)
        rows.append(
            {
                "problem": measurement.problem.name,
                "image": image,
                "map": name,
                "psnr": f"{measurement.psnr(restored):.4f}",
                "gain_random": f"{typical:.4f}",
                "gain_largest": f"{largest:.4f}",
            }
        )
    return rows


def _first_round(model: AdaptiveRegularizer, measurement: Measurement) -> Tensor:
    first = _solve(model, measurement, measurement.y).first
    assert first is not None
    return first.image


def _gains(solve: Map, y: Tensor, restored: Tensor) -> tuple[float, float]:
    """`|f(y + d) - f(y)| / |d|` for a random `d`, and the largest of the power iterations from it."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y)
    gains = []
    for _ in range(POWER_ITERATIONS):
        direction = direction * (PERTURBATION * y[0].numel() ** 0.5 / direction.norm())
        change = solve(y + direction) - restored
        gains.append(float(change.norm() / direction.norm()))
        direction = change
    return gains[0], max(gains)


def _draw_weights(model: AdaptiveRegularizer, measurement: Measurement, folder: Path) -> None:
    sigma = measurement.sigma
    there = _first_round(model, measurement)
    assert isinstance(model.network, WeightNetwork)
    low, high = model.network.log_limits
    scaled = (model.weights(there, sigma).log() - low) / (high - low)
    spread = scaled[0].flatten(1).std(1).argsort(descending=True)
    pictures = {"reconstruction": there[0], "mean weight": scaled[0].mean(0, keepdim=True)}
    for number, term in enumerate(spread[:SHOWN_TERMS].tolist()):
        pictures[f"weight of term {number}"] = scaled[0, term : term + 1]
    for part, pixels in pictures.items():
        path = folder / f"{measurement.problem.name}.{part.replace(' ', '-')}.png"
        write_image(path, Photograph(pixels.float().cpu(), None, 8))


def _quality(rows: DataFrame) -> Table:
    lines = []
    for problem, its in rows.groupby("problem", sort=False):
        scores = its.pivot(index="image", columns="map", values="psnr")
        gain = scores["adaptive"] - scores["convex"]
        lines.append(
            {
                "problem": problem,
                "convex": f"{scores['convex'].mean():.2f}",
                "adaptive": f"{scores['adaptive'].mean():.2f}",
                "gain (dB)": mean_with_error(gain, sign=True),
                "images made worse": (gain < 0).sum(),
                "least gain (dB)": f"{gain.min():+.2f} ({gain.idxmin()})",
            }
        )
    return Table("What the second round gains, and where it fails", DataFrame(lines))


def _sensitivity(rows: DataFrame) -> Table:
    lines = [
        {
            "problem": problem,
            "map": name,
            "random perturbation": f"{its['gain_random'].mean():.2f}",
            "largest found": f"{its['gain_largest'].max():.2f}",
            "proven": "-" if name == "adaptive" else "1",
        }
        for (problem, name), its in rows.groupby(["problem", "map"], sort=False)
    ]
    note = (
        f"Of {', '.join(rows['image'].unique())}. Change of the result over change of the data (2-norms): "
        "mean for a random perturbation of the data, and the largest ratio that power iterations found on "
        "any image."
    )
    return Table("Sensitivity of denoising to the data", DataFrame(lines), note)
