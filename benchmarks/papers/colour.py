"""Colour adaptation: the colours of one photograph mapped to those of another (2023 paper, 5.3)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.options import Options
from benchmarks.harness.records import replace_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from benchmarks.papers import drawing
from benchmarks.papers.ensemble import Network, Training, fit, resampled
from benchmarks.papers.gaussian import Gaussian
from benchmarks.papers.networks import c_mgn, m_mgn, mgradnet_c, mgradnet_m
from benchmarks.papers.objectives import change_of_variables
from benchmarks.papers.photographs import (
    PHOTOGRAPHS,
    ColourMap,
    dequantised,
    jpeg,
    photograph,
)
from convexreg.files import write_atomically

# the points are those of POT's mapping, whose values are those of its colour transfer example
TRAINING = Training(1, 3000, 1000, 1e-2, points=(500,))
TINY = Training(1, 10, 50, 1e-2, points=(20,))
MEASURED_POINTS, MAPPING_ITERATIONS = 4000, 20

COLUMNS = {
    "method": "method",
    "nll": "NLL of the outputs",
    "change_of_variables": "NLL, change of variables",
    "cost": "cost",
    "moments": "distance of the moments",
    "smallest_eigenvalue": "smallest eigenvalue",
    "asymmetry": "asymmetry",
    "reversed": "pairs reversed (%)",
    "outside": "outside [0, 1] (%)",
    "seconds": "s",
}

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "C-MGN": lambda: c_mgn(3, 24, 3),
    "M-MGN": lambda: m_mgn(3, 12, 3),
    "mGradNet-C": lambda: mgradnet_c(3, 24, 3, learned=True),
    "mGradNet-M": lambda: mgradnet_m(3, 12, 3, linear=True),
}


@register
class Colour(Benchmark):
    """Maps the pixel colours of a photograph to a Gaussian fitted to those of another.

    The networks minimise the negative log-likelihood by the change of variables, as in the optimal
    coupling. POT's baselines are the linear map between the two Gaussians and the mapping estimation
    with Gaussian kernels (Perrot et al. 2016), the paper's baseline. All maps are measured alike, their
    Jacobians by central differences in float64.
    """

    name = "colour"
    description = "Colour adaptation between two photographs, against POT's linear and kernel maps"
    file = "maps.csv"
    restricted_by = ("methods",)

    def run(self, options: Options, folder: Path) -> None:
        training = TINY if options.tiny else TRAINING
        generator = torch.Generator().manual_seed(options.seed)
        pictures = {role: photograph(name) for role, name in PHOTOGRAPHS.items()}
        source, target = (dequantised(pictures[role], generator) for role in ("source", "target"))
        gaussian = Gaussian(target.mean(0), torch.cov(target.T))
        measured = source[torch.randperm(len(source), generator=generator)[:MEASURED_POINTS]]
        write_atomically(_picture(folder, "target"), jpeg([pictures["target"]]))
        trainers = _trainers(source, target, gaussian, training, options.seed)
        for name, trainer in {
            "none": lambda: lambda colours: colours,
            **selected(trainers, options.methods, "method"),
        }.items():
            started = time.perf_counter()
            transform = trainer()
            label = {"method": name, "seconds": f"{time.perf_counter() - started:.1f}"}
            row = label | _measure(transform, measured, gaussian)
            shown = [pictures["source"], pictures["unseen"]]
            write_atomically(_picture(folder, name), jpeg(shown, transform))
            replace_rows(folder / self.file, [row], "method")

    def tables(self, folder: Path) -> list[Table]:
        rows = self.rows(folder)[list(COLUMNS)].rename(columns=COLUMNS)
        note = (
            f"Colours of `{PHOTOGRAPHS['source']}` mapped to the Gaussian of "
            f"`{PHOTOGRAPHS['target']}` (both in scikit-image). NLL of the outputs: under that "
            "Gaussian, in nats a pixel; change of variables: less log |det J|, what the networks "
            "minimise. Distance of the moments: squared 2-Wasserstein distance between the Gaussian of "
            "the outputs and the target's, times 1000; cost: mean squared change of colour. Monotone "
            "maps have eigenvalues (of the symmetric part of the Jacobian) of at least zero and reverse "
            "no pair, `<g(x) - g(y), x - y> < 0`; gradients have no asymmetry. A map onto the Gaussian, like "
            "the linear one, reaches its entropy; a lower NLL of the outputs, like the kernel map's, is that "
            "of colours too close to the mean. The paper shows pictures (of Dark Zurich) and no numbers."
        )
        return [Table(self.description, rows, note)]

    def figures(self, folder: Path) -> list[Figure]:
        methods = self.rows(folder)["method"]
        return [
            Figure(
                "colour",
                "The source (above) and a photograph not seen in training (below) with every map, and the "
                "target.",
                drawing.contact_sheet({n: _picture(folder, n) for n in [*methods, "target"]}),
            )
        ]


def _picture(folder: Path, method: str) -> Path:
    name = re.sub(r"\W+", "-", method).strip("-")
    return folder / f"{name}.jpg"


def _trainers(
    source: Tensor, target: Tensor, gaussian: Gaussian, training: Training, seed: int
) -> Mapping[str, Callable[[], ColourMap]]:
    networks = {
        name: lambda build=build: _learned(build, source, gaussian, training, seed)
        for name, build in NETWORKS.items()
    }
    return {
        **networks,
        "POT (linear)": lambda: _linear(source, target),
        "POT (mapping)": lambda: _mapping(source, target, training, seed),
    }


def _learned(
    build: Callable[[], nn.Module],
    source: Tensor,
    gaussian: Gaussian,
    training: Training,
    seed: int,
) -> ColourMap:
    """`g(x) = mean + t h((x - c) / s)` with one scale for all channels: a gradient as `h` is."""
    centre, scale = source.mean(0), source.var(0).sum().sqrt()
    spread = gaussian.covariance.trace().sqrt()
    standard = ((source - centre) / scale).float().unsqueeze(0)
    shape = Gaussian(torch.zeros(3, dtype=torch.float64), gaussian.covariance / spread**2)
    # z -> C^-1 z as a matrix: rows of the identity whitened
    whitening = shape.whiten(torch.eye(3)).float()

    def objective(network: Network, x: Tensor) -> Tensor:
        return change_of_variables(lambda points: network(points) @ whitening, x)

    fitted = fit(
        build,
        objective,
        resampled(standard, training, torch.Generator().manual_seed(seed)),
        [standard[:, :: standard.shape[1] // MEASURED_POINTS]],
        training,
        seed=seed,
    )
    network = fitted.ensemble.member(0).double()
    return lambda colours: gaussian.mean + spread * network((colours - centre) / scale)


def _linear(source: Tensor, target: Tensor) -> ColourMap:
    import ot

    solver = ot.da.LinearTransport()
    solver.fit(Xs=source, Xt=target)
    return lambda colours: torch.as_tensor(solver.transform(Xs=colours))


def _mapping(source: Tensor, target: Tensor, training: Training, seed: int) -> ColourMap:
    import ot

    generator = torch.Generator().manual_seed(seed)
    samples = [
        pixels[torch.randperm(len(pixels), generator=generator)[: training.points[0]]].numpy()
        for pixels in (source, target)
    ]
    solver = ot.da.MappingTransport(
        mu=1,
        eta=1e-2,
        sigma=1,
        bias=True,
        kernel="gaussian",
        max_iter=MAPPING_ITERATIONS,
    )
    solver.fit(Xs=samples[0], Xt=samples[1])
    return lambda colours: torch.from_numpy(solver.transform(Xs=colours.numpy()))


def _measure(transform: ColourMap, colours: Tensor, gaussian: Gaussian) -> dict[str, Any]:
    mapped = transform(colours)
    jacobians = _differences(transform, colours)
    symmetric = (jacobians + jacobians.mT) / 2
    nll = -gaussian.log_density(mapped)
    log_determinant = torch.linalg.slogdet(jacobians).logabsdet
    half = len(colours) // 2
    products = ((mapped[:half] - mapped[-half:]) * (colours[:half] - colours[-half:])).sum(1)
    outputs = Gaussian(mapped.mean(0), torch.cov(mapped.T))
    outside = ((mapped < 0) | (mapped > 1)).any(1)
    return {
        "nll": f"{float(nll.mean()):.3f}",
        "change_of_variables": f"{float((nll - log_determinant).mean()):.3f}",
        "cost": f"{float((mapped - colours).square().sum(1).mean()):.4f}",
        "moments": f"{1000 * gaussian.squared_distance(outputs):.3f}",
        "smallest_eigenvalue": f"{float(torch.linalg.eigvalsh(symmetric).min()):.4f}",
        "asymmetry": f"{float((jacobians - jacobians.mT).abs().max()):.1e}",
        "reversed": f"{100 * float((products < 0).double().mean()):.2f}",
        "outside": f"{100 * float(outside.double().mean()):.2f}",
    }


def _differences(transform: ColourMap, colours: Tensor, step: float = 1e-4) -> Tensor:
    """Jacobians by central differences, `(N, 3, 3)`."""
    columns = [
        (transform(colours + step * axis) - transform(colours - step * axis)) / (2 * step)
        for axis in torch.eye(3, dtype=colours.dtype)
    ]
    return torch.stack(columns, -1)
