"""What adaptive weights gain and what they cost: sensitivity to the data, weight maps, failures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from benchmarks.harness import drawing
from benchmarks.harness.datasets import open_images
from benchmarks.harness.options import Options
from benchmarks.harness.records import read_rows, write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register
from benchmarks.methods.summary import standard_error
from benchmarks.problems.table import Measurement, named_problem
from convexreg.adaptive import AdaptiveRegularizer
from convexreg.models.files import load_adaptive
from convexreg.pictures.files import Photograph, read_image, write_image
from convexreg.regularizer import Regularizer
from convexreg.solvers import Proximity, QuasiNewton, Sum, minimise
from convexreg.training.objectives import prepare, psnr

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
                write_rows(folder / "gains.csv", rows)

    def tables(self, folder: Path) -> list[Table]:
        rows = read_rows(folder / "gains.csv")
        return [_quality(rows), _sensitivity(rows)]

    def headline(self, folder: Path) -> list[Table]:
        rows = read_rows(folder / "gains.csv")
        return [_sensitivity(rows)] if rows else []

    def figures(self, folder: Path) -> list[Figure]:
        problems = list(dict.fromkeys(row["problem"] for row in read_rows(folder / "gains.csv")))
        parts = ["reconstruction", "mean weight"]
        parts += [f"weight of term {term}" for term in range(SHOWN_TERMS)]
        figure, axes = drawing.panels(len(problems), len(parts), width=1.5, height=1.6)
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
    """The user's model or the shipped one, in float64."""
    model = load_adaptive(*options.models[:1])
    return copy.deepcopy(model).double().to(options.device)


def _proximal(regularizer: Regularizer, y: Tensor, sigma: float, start: Tensor) -> Tensor:
    objective = Sum([Proximity(y), regularizer.term(sigma)], [1.0, 1.0])
    return minimise(objective, start, QuasiNewton(), gap_tol=GAP, max_iter=500, throw=False).x


def _row(model: AdaptiveRegularizer, measurement: Measurement, image: str) -> list[dict]:
    """Quality and gains of the three maps on one image."""
    sigma, start = measurement.sigma, measurement.start
    frozen, _ = prepare(model, measurement.y, sigma)

    def adaptive(y: Tensor) -> Tensor:
        given, there = prepare(model, y, sigma)
        return _proximal(given, y, sigma, there)

    maps: dict[str, Map] = {
        "convex": lambda y: _proximal(model.first, y, sigma, start),
        "adaptive, weights frozen": lambda y: _proximal(frozen, y, sigma, start),
        "adaptive": adaptive,
    }
    rows = []
    for name, solve in maps.items():
        restored = solve(measurement.y)
        typical, largest = _gains(solve, measurement.y, restored)
        rows.append(
            {
                "problem": measurement.problem.name,
                "image": image,
                "map": name,
                "psnr": f"{float(psnr(restored, measurement.clean)):.4f}",
                "gain_random": f"{typical:.4f}",
                "gain_largest": f"{largest:.4f}",
            }
        )
    return rows


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
    _, there = prepare(model, measurement.y, sigma)
    low, high = model.network.log_limits
    scaled = (model.weights(there, sigma).log() - low) / (high - low)
    spread = scaled[0].flatten(1).std(1).argsort(descending=True)
    pictures = {"reconstruction": there[0], "mean weight": scaled[0].mean(0, keepdim=True)}
    for number, term in enumerate(spread[:SHOWN_TERMS].tolist()):
        pictures[f"weight of term {number}"] = scaled[0, term : term + 1]
    for part, pixels in pictures.items():
        path = folder / f"{measurement.problem.name}.{part.replace(' ', '-')}.png"
        write_image(path, Photograph(pixels.float().cpu(), None, 8))


def _quality(rows: list[dict[str, str]]) -> Table:
    lines = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        scores = {
            name: {
                row["image"]: float(row["psnr"])
                for row in rows
                if row["problem"] == problem and row["map"] == name
            }
            for name in ("convex", "adaptive")
        }
        differences = {
            image: scores["adaptive"][image] - value for image, value in scores["convex"].items()
        }
        worst = min(differences, key=lambda image: differences[image])
        lines.append(
            {
                "problem": problem,
                "convex": f"{mean(scores['convex'].values()):.2f}",
                "adaptive": f"{mean(scores['adaptive'].values()):.2f}",
                "gain (dB)": f"{mean(differences.values()):+.2f} ± "
                f"{standard_error(list(differences.values())):.2f}",
                "images made worse": sum(value < 0 for value in differences.values()),
                "least gain (dB)": f"{differences[worst]:+.2f} ({worst})",
            }
        )
    return Table("What the second round gains, and where it fails", lines)


def _sensitivity(rows: list[dict[str, str]]) -> Table:
    lines = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        for name in dict.fromkeys(row["map"] for row in rows):
            chosen = [row for row in rows if row["problem"] == problem and row["map"] == name]
            typical = [float(row["gain_random"]) for row in chosen]
            largest = [float(row["gain_largest"]) for row in chosen]
            lines.append(
                {
                    "problem": problem,
                    "map": name,
                    "random perturbation": f"{mean(typical):.2f}",
                    "largest found": f"{max(largest):.2f}",
                    "proven": "-" if name == "adaptive" else "1",
                }
            )
    images = ", ".join(dict.fromkeys(row["image"] for row in rows))
    note = (
        f"Of {images}. Change of the result over change of the data (2-norms): mean for a random "
        "perturbation of the data, and the largest ratio that power iterations found on any image."
    )
    return Table("Sensitivity of denoising to the data", lines, note)
