"""What the models learned: their filters, groups and potentials, and the spectrum of their Jacobians."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from pandas import DataFrame
from torch import Tensor

from benchmarks.harness import drawing
from benchmarks.harness.datasets import open_images
from benchmarks.harness.options import Options
from benchmarks.harness.records import read_rows, write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from benchmarks.methods.models import gradient_module, models
from convexreg.adaptive import AdaptiveRegularizer
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution
from convexreg.pictures.files import Photograph, read_image, write_image
from convexreg.regularizer import ConvexRegularizer, Regularizer

SIGMAS = (5 / 255, 25 / 255, 50 / 255)
DRAWN_SIGMA = 25 / 255
# responses to draw potentials over, in standard deviations of the filter's response to the noise
RESPONSES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
COLUMNS = 16


@register
class Learned(Benchmark):
    """Filters in the order of their strength, the members of a group below each other; the force of every
    group's potential; the smallest and largest eigenvalue of the Jacobian of the gradient at image crops.

    The eigenvalues are those of the dense Jacobian in float64. For a convex regularizer none is negative
    and none above the Lipschitz constant proven for the crop's size. Adaptive models are taken with
    the weights that they compute from the crop.
    """

    name = "learned"
    description = "Filters, groups and potentials of the models, and eigenvalues of their Jacobians"
    file = "spectra.csv"
    numbers = ("smallest", "largest", "bound", "asymmetry")
    adds_up = False
    restricted_by = ("methods",)

    def run(self, options: Options, folder: Path) -> None:
        crop = options.crop or (8 if options.tiny else 24)
        limit = 1 if options.tiny else options.limit
        images = open_images(options.images or "photographs", limit=limit, crop=crop)
        curves, spectra = [], []
        for name, model in _chosen(options):
            shown = model.second if isinstance(model, AdaptiveRegularizer) else model
            convolutional = gradient_module(shown)
            if convolutional is not None:
                forces = _forces(*convolutional)
                mosaic = _mosaic(_ordered(*convolutional, forces))
                write_image(folder / f"{name}.filters.png", Photograph(mosaic, None, 8))
                curves += [{"model": name, **row} for row in _curves(forces)]
                write_rows(folder / "forces.csv", curves)
            for sigma in SIGMAS:
                for image_name, image in images:
                    x = image.double()[None]
                    adaptive = isinstance(model, AdaptiveRegularizer)
                    given = model.given(x, sigma) if adaptive else model
                    row = {"model": name, "sigma": f"{255 * sigma:g}", "image": image_name}
                    spectra.append({**row, **_spectrum(given, x, sigma)})
                    write_rows(folder / self.file, spectra)

    def tables(self, folder: Path) -> list[Table]:
        lines = [
            {
                "model": name,
                "sigma": sigma,
                "crops": len(its),
                "smallest eigenvalue": f"{its['smallest'].min():.1e}",
                "largest eigenvalue": f"{its['largest'].max():.2f}",
                "proven bound": f"{its['bound'].max():.2f}",
                "asymmetry": f"{its['asymmetry'].max():.0e}",
            }
            for (name, sigma), its in self.rows(folder).groupby(["model", "sigma"], sort=False)
        ]
        note = (
            "Of the Jacobian of the regularizer's gradient at clean image crops, dense and in float64: "
            "extremes over all crops. Asymmetry: largest entry of J - J^T over that of J."
        )
        return [Table("Eigenvalues of the Jacobian", DataFrame(lines), note)]

    def headline(self, folder: Path) -> list[Table]:
        return self.tables(folder)

    def figures(self, folder: Path) -> list[Figure]:
        rows = read_rows(folder / "forces.csv").astype({"response": float, "force": float})
        by_model = rows.groupby("model", sort=False)
        return [
            figure
            for name, its in by_model
            for figure in (_filters(str(name), folder), _potentials(str(name), its))
        ]


def _filters(name: str, folder: Path) -> Figure:
    mosaic = read_image(folder / f"{name}.filters.png").pixels[0]
    height = 4.8 * mosaic.shape[0] / mosaic.shape[1]
    figure, (axes,) = drawing.panels(1, 1, width=4.8, height=height + 0.3)
    axes.imshow(mosaic.numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    axes.set_title(f"{name}: filters", loc="left")
    caption = (
        f"Filters of {name}, the strongest group first; the members of a group stand below each other. "
        "Gray is zero; every filter has its own scale."
    )
    return Figure(f"filters-{name}", caption, figure)


def _potentials(name: str, rows: DataFrame) -> Figure:
    figure, axes = drawing.canvas(
        title=f"{name}: potentials at sigma 25/255",
        x="response / its standard deviation under the noise",
        y="force / sigma",
    )
    for _, its in rows.groupby("group"):
        axes.plot(its["response"], its["force"], color="#0072B2", alpha=0.35, linewidth=0.8)
    caption = (
        f"Derivative of the potential of every group of {name}: how strongly it pulls a response of its "
        "first filter towards zero."
    )
    return Figure(f"forces-{name}", caption, figure)


def _chosen(options: Options) -> Iterator[tuple[str, ConvexRegularizer | AdaptiveRegularizer]]:
    """Convex and adaptive models in float64: the shipped ones and the user's, or those asked for.

    :raises ValueError: a model that does not exist or cannot be loaded.
    """
    table = {row.name: row for row in models(options)}
    usual = [name for name in table if "(published)" not in name]
    names = ["cosines"] if options.tiny else options.methods or usual
    for name, row in selected(table, names, "model").items():
        model = row.load()
        if isinstance(model, (ConvexRegularizer, AdaptiveRegularizer)):
            yield name, copy.deepcopy(model).double().to(options.device)


def _forces(module: GradientModule, operator: Convolution) -> Tensor:
    """Force over sigma `(groups, responses)` of each group's first filter, the others silent."""
    channels = operator.out_channels
    firsts = range(0, channels, channels // module.terms)
    norms = operator.kernel[:, 0].flatten(1).norm(dim=1)
    scale = weight = None
    if module.conditioning is not None:
        scale, weight = module.conditioning(DRAWN_SIGMA)
    forces = []
    for channel in firsts:
        z = norms.new_zeros(len(RESPONSES), channels)
        z[:, channel] = norms.new_tensor(RESPONSES) * DRAWN_SIGMA * norms[channel]
        slope = module.phi.grad(z if scale is None else scale * z, weight)
        slope = slope if scale is None else scale * slope
        forces.append(slope[:, channel] * norms[channel] / DRAWN_SIGMA)
    return torch.stack(forces)


def _curves(forces: Tensor) -> Iterator[dict[str, str]]:
    for group, curve in enumerate(forces.tolist()):
        for response, force in zip(RESPONSES, curve, strict=True):
            yield {"group": str(group), "response": f"{response:g}", "force": f"{force:.5g}"}


def _ordered(module: GradientModule, operator: Convolution, forces: Tensor) -> Tensor:
    """Kernels `(groups, members, k, k)`, the group with the strongest force first."""
    kernels = operator.kernel[:, 0].unflatten(0, (module.terms, -1))
    return kernels[forces[:, -1].argsort(descending=True)]


def _mosaic(kernels: Tensor) -> Tensor:
    """One picture `(1, height, width)` of kernels `(groups, size, k, k)`, a frame of two pixels between."""
    groups, size, side, _ = kernels.shape
    shown = 0.5 + 0.5 * kernels / kernels.abs().amax((2, 3), keepdim=True).clamp_min(1e-12)
    columns = min(COLUMNS, groups)
    lines = -(-groups // columns)
    picture = torch.ones(lines, size, side + 2, columns, side + 2)
    for number in range(groups):
        line, column = divmod(number, columns)
        picture[line, :, 2:, column, 2:] = shown[number].float().cpu()
    return picture.flatten(3, 4).flatten(0, 2).unsqueeze(0)


def _spectrum(regularizer: Regularizer, x: Tensor, sigma: float) -> dict[str, str]:
    """Extreme eigenvalues of the Jacobian at `x` `(1, 1, H, W)`, and the proven bound on them."""
    dense = torch.autograd.functional.jacobian(lambda v: regularizer.grad(v, sigma), x)
    jacobian = dense.reshape(x.numel(), x.numel())
    eigenvalues = torch.linalg.eigvalsh((jacobian + jacobian.mT) / 2)
    height, width = x.shape[-2:]
    bound = regularizer.lipschitz(image_size=(height, width), sigma=sigma)
    return {
        "smallest": f"{eigenvalues[0].item():.3e}",
        "largest": f"{eigenvalues[-1].item():.6g}",
        "bound": f"{bound.max().item():.6g}",
        "asymmetry": f"{((jacobian - jacobian.mT).abs().max() / jacobian.abs().max()).item():.1e}",
    }
