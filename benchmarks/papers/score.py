"""Score matching by denoising, where the truth is known (a use the 2024 paper names)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import torch
from pandas import DataFrame
from torch import Tensor, nn

from benchmarks.harness.options import Options
from benchmarks.harness.records import read_rows, replace_rows
from benchmarks.harness.registry import Figure, Table, register, selected
from benchmarks.papers import drawing
from benchmarks.papers.baselines import MLP
from benchmarks.papers.ensemble import Fit, Training, fit
from benchmarks.papers.networks import mgradnet_c, mgradnet_m
from benchmarks.papers.objectives import denoising_error, jacobian
from benchmarks.papers.trials import Experiment, mean_and_spread, texts, trials

SLICE = 4.0
"""The figure shows the score along the first axis between minus and plus this."""


@dataclass(frozen=True)
class Density:
    """A log-concave density of the plane whose blurring by Gaussian noise is known.

    :ivar sample: `(shape, generator)` to points `(*shape, 2)`.
    :ivar energy: `(y, sigma)` to `-log p_sigma(y)` up to a constant, with `p_sigma = p * N(0, sigma^2)`.
    """

    sample: Callable[[tuple[int, ...], torch.Generator], Tensor]
    energy: Callable[[Tensor, float], Tensor]

    def score(self, y: Tensor, sigma: float) -> Tensor:
        """`-grad log p_sigma(y)`, a monotone gradient, computed in float64."""
        energy = torch.func.grad(lambda points: self.energy(points, sigma).sum())
        return energy(y.double()).to(y.dtype)


_ANGLE = math.radians(30)
_ROTATION = torch.tensor(
    [[math.cos(_ANGLE), math.sin(_ANGLE)], [-math.sin(_ANGLE), math.cos(_ANGLE)]],
    dtype=torch.float64,
)
_CENTRES = 1.1 * torch.tensor(
    [[math.cos(t), math.sin(t)] for t in (math.pi / 2, 7 * math.pi / 6, 11 * math.pi / 6)],
    dtype=torch.float64,
)


def _sample_laplace(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    uniform = torch.rand(*shape, 2, generator=generator, dtype=torch.float64) - 0.5
    return (-uniform.sign() * torch.log1p(-2 * uniform.abs())) @ _ROTATION


def _laplace_energy(y: Tensor, sigma: float) -> Tensor:
    z = y @ _ROTATION.mT
    right = -z + torch.special.log_ndtr(z / sigma - sigma)
    left = z + torch.special.log_ndtr(-z / sigma - sigma)
    return -torch.logaddexp(right, left).sum(-1)


def _sample_mixture(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    component = torch.randint(3, shape, generator=generator)
    noise = torch.randn(*shape, 2, generator=generator, dtype=torch.float64)
    return _CENTRES[component] + noise


def _mixture_energy(y: Tensor, sigma: float) -> Tensor:
    square = (y.unsqueeze(-2) - _CENTRES).square().sum(-1)
    return -torch.logsumexp(-square / (2 * (1 + sigma**2)), -1)


DENSITIES = {
    "Laplace": Density(_sample_laplace, _laplace_energy),
    "mixture": Density(_sample_mixture, _mixture_energy),
}
"""`exp(-|R x|_1)` with a rotation `R`: its energy is a sum of convex ridges, blurred or not. And an equal
mixture of three unit Gaussians around a triangle of radius 1.1, log-concave up to a radius of
`sqrt(4/3)`: its energy is no sum of ridges."""


SIGMA = 0.5
TRAINING = Training(5, 5000, 1000, 5e-3, (20_000, 20_000))
TINY = Training(2, 10, 50, 5e-3, (200, 200))

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mGradNet-C": lambda: mgradnet_c(2, 12, 2, learned=True),
    "mGradNet-M": lambda: mgradnet_m(2, 12, 4, linear=True),
    "MLP": lambda: MLP([2, 11, 11, 2]),
}


def _pairs(density: Density, trials: int, points: int, generator: torch.Generator) -> list[Tensor]:
    """Noisy points, clean points and the noise level of every trial."""
    clean = density.sample((trials, points), generator).float()
    noise = torch.randn(clean.shape, generator=generator)
    return [clean + SIGMA * noise, clean, torch.full((trials,), SIGMA)]


@register
class Score(Experiment):
    """Networks trained as denoisers of a log-concave density learn its blurred score.

    The minimiser of the denoising error is `g = -grad log p_sigma`, the gradient of a convex function
    (Prekopa), so that the constraint of a monotone network costs nothing. The error of the score is
    relative, `E |g - s|^2 / E |s|^2` over noisy points.
    """

    name = "score"
    description = "Denoising score matching of log-concave densities with known scores"

    def run(self, options: Options, folder: Path) -> None:
        training = TINY if options.tiny else TRAINING
        networks = selected(NETWORKS, options.methods, "method")
        for (kind, density), name in product(DENSITIES.items(), networks):
            draw = partial(
                _pairs,
                density,
                training.trials,
                generator=torch.Generator().manual_seed(options.seed),
            )
            validation, test = (draw(points) for points in training.points)
            batches = (draw(training.batch_size) for _ in range(training.steps))
            fitted = fit(
                networks[name], denoising_error, batches, validation, training, seed=options.seed
            )
            label = {"density": kind, "network": name}
            rows = _measure(label, fitted, density, test)
            slices = _slice(label, fitted, density)
            replace_rows(folder / self.file, rows, "density", "network")
            replace_rows(folder / "slices.csv", slices, "density", "network")

    def tables(self, folder: Path) -> list[Table]:
        rows = []
        for (kind, name), its in self.rows(folder).groupby(["density", "network"], sort=False):
            rows.append(
                {
                    "density": kind,
                    "network": name,
                    "parameters": its["parameters"].iloc[0],
                    "score error (dB)": mean_and_spread(its["score_error_db"]),
                    "denoising MSE": mean_and_spread(its["mse"], 5),
                    "best possible": mean_and_spread(its["mmse"], 5),
                    "asymmetry": mean_and_spread(its["asymmetry"], 4),
                    "smallest eigenvalue": mean_and_spread(its["smallest_eigenvalue"], 4),
                }
            )
        note = (
            "Score error: 10 log10 of E|g - s|^2 / E|s|^2. Best possible: the denoising error of the true "
            "score on the same points. Asymmetry: largest |J - J^T| over the test points; smallest "
            "eigenvalue: of the symmetric part of the Jacobian over the test points (negative: not "
            "monotone). The blurred Laplace energy is a sum of ridges, mGradNet-C's own class: why its "
            "trials end so far apart was not examined. The papers have no such table."
        )
        return [Table(self.description, DataFrame(rows), note)]

    def figures(self, folder: Path) -> list[Figure]:
        return [
            Figure(
                "score",
                "First component of the score along the first axis: the truth and the first trial.",
                drawing.score_slices(read_rows(folder / "slices.csv")),
            )
        ]


def _measure(label: dict[str, str], fitted: Fit, density: Density, test: list[Tensor]) -> DataFrame:
    noisy, clean, _ = test
    truth = density.score(noisy, SIGMA)
    with torch.no_grad():
        learned = fitted.ensemble(noisy)
        jacobians = fitted.ensemble.map(jacobian, noisy)
    error = (learned - truth).square().mean((1, 2)) / truth.square().mean((1, 2))
    mse, mmse = ((noisy - SIGMA**2 * g - clean).square().mean((1, 2)) for g in (learned, truth))
    asymmetry = (jacobians - jacobians.mT).abs().amax((1, 2, 3))
    smallest = torch.linalg.eigvalsh((jacobians + jacobians.mT) / 2).amin((1, 2))
    return trials(
        label,
        fitted,
        score_error_db=(10 * error.log10(), ".3f"),
        mse=(mse, ".6f"),
        mmse=(mmse, ".6f"),
        asymmetry=(asymmetry, ".2e"),
        smallest_eigenvalue=(smallest, ".4f"),
    )


def _slice(label: dict[str, str], fitted: Fit, density: Density, points: int = 81) -> DataFrame:
    position = torch.linspace(-SLICE, SLICE, points)
    line = torch.stack([position, torch.zeros(points)], 1)
    truth = density.score(line, SIGMA)[:, 0]
    with torch.no_grad():
        learned = fitted.ensemble(line.expand(len(fitted.ensemble), -1, -1))[0, :, 0]
    numbers = {"true": texts(truth, ".4f"), "learned": texts(learned, ".4f")}
    return DataFrame({**label, "position": texts(position, ".2f"), **numbers})
