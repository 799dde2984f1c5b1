"""Figures of the experiments, from saved rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.harness.drawing import legend_below, panels, style_of
from benchmarks.papers.fields import Field, grid
from benchmarks.papers.trials import Row, distinct, numbers, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def quiver(field: Field, *, arrows: int = 17, side: int = 101) -> Figure:
    """Contours of a function on the unit square and arrows of its gradient."""
    figure, (axes,) = panels(1, 1, width=4.4, height=3.6)
    axis = torch.linspace(0, 1, side).numpy()
    axes.grid(False)
    axes.contour(
        axis, axis, field.potential(grid(side)).reshape(side, side).numpy(), 12, cmap="Greys"
    )
    points = grid(arrows)
    gradient = field.gradient(points)
    norm = gradient.norm(dim=-1).numpy()
    drawn = axes.quiver(*points.T.numpy(), *gradient.T.numpy(), norm, cmap="viridis")
    figure.colorbar(drawn, ax=axes, label="norm of the gradient")
    axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    return figure


def error_maps(rows: Sequence[Row], order: Sequence[str], side: int) -> Figure:
    """One map of the error's norm in dB for every column, on a common scale over 30 dB."""
    names = [name for name in order if name in rows[0]]
    columns = min(4, len(names))
    figure, all_axes = panels(-(-len(names) // columns), columns, width=2.0, height=2.2)
    errors = {n: torch.tensor(numbers(rows, n)).reshape(side, side).numpy() for n in names}
    highest = max(float(error.max()) for error in errors.values())
    for axes, name in zip(all_axes, names, strict=False):
        drawn = axes.imshow(
            errors[name], origin="lower", extent=(0, 1, 0, 1), vmin=highest - 30, vmax=highest
        )
        axes.set(title=_in_two_lines(name), xticks=[0, 1], yticks=[0, 1])
        axes.grid(False)
    _hide(all_axes[len(names) :])
    figure.colorbar(drawn, ax=all_axes, label="norm of the error (dB)")
    return figure


def training_curves(rows: Sequence[Row]) -> Figure:
    """Validation loss against the epoch, one line for every network."""
    figure, (axes,) = panels(1, 1, width=4.8, height=4.0)
    names = distinct(rows, "network")
    for name in names:
        curve = select(rows, network=name)
        values = numbers(curve, "validation_db")
        axes.plot(numbers(curve, "epoch"), values, label=name, **style_of(name, names))
    axes.set(xlabel="epoch", ylabel="validation loss (dB)")
    legend_below(figure, axes, 3)
    return figure


def transported_points(rows: Sequence[Row]) -> Figure:
    """Scatter plots of the columns `NAME 0` and `NAME 1`, coloured by the first coordinate before."""
    names = list(dict.fromkeys(column[:-2] for column in rows[0]))
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure, all_axes = panels(lines, columns, width=1.8, height=1.9, shared=True)
    colours = numbers(rows, "before 0")
    for axes, name in zip(all_axes, names, strict=False):
        places = (numbers(rows, f"{name} {axis}") for axis in (0, 1))
        axes.scatter(*places, c=colours, s=3, cmap="rainbow", rasterized=True)
        axes.set(title=_in_two_lines(name), aspect="equal")
    _hide(all_axes[len(names) :])
    return figure


def rate_sweep(rows: Sequence[Row]) -> Figure:
    """Test MSE against the learning rate, one panel for every dimension."""
    dimensions, names = distinct(rows, "dimension"), distinct(rows, "network")
    figure, all_axes = panels(1, len(dimensions), width=2.8, height=3.2)
    for axes, dimension in zip(all_axes, dimensions, strict=True):
        for name in names:
            its = select(rows, dimension=dimension, network=name)
            style = style_of(name, names) | {"linestyle": "none", "marker": "o"}
            axes.semilogx(
                numbers(its, "learning_rate"), numbers(its, "mse_db"), label=name, **style
            )
        axes.set(title=f"d = {dimension}", xlabel="learning rate")
    all_axes[0].set_ylabel("test MSE (dB)")
    legend_below(figure, all_axes[0], 3)
    return figure


def error_against_width(rows: Sequence[Row]) -> Figure:
    """Test RMSE against width, one panel for every function: lines through the means, dots for trials."""
    functions, names = distinct(rows, "function"), distinct(rows, "network")
    figure, all_axes = panels(1, len(functions), width=2.4, height=3.0)
    for axes, function in zip(all_axes, functions, strict=True):
        for name in names:
            its = select(rows, function=function, network=name)
            widths = [int(width) for width in distinct(its, "width")]
            errors = [numbers(select(its, width=width), "rmse") for width in widths]
            means = [sum(values) / len(values) for values in errors]
            style = style_of(name, names)
            axes.loglog(widths, means, label=name, **style)
            axes.loglog(numbers(its, "width"), numbers(its, "rmse"), ".", color=style["color"])
            axes.set_xticks(widths, [str(width) for width in widths])
        axes.set(title=function, xlabel="width")
        axes.minorticks_off()
    all_axes[0].set_ylabel("test RMSE")
    legend_below(figure, all_axes[0])
    return figure


def score_slices(rows: Sequence[Row]) -> Figure:
    """The score along a line, true (grey) and learned, one panel for every density."""
    densities, names = distinct(rows, "density"), distinct(rows, "network")
    figure, all_axes = panels(1, len(densities), width=2.8, height=3.2)
    for axes, density in zip(all_axes, densities, strict=True):
        of_density = select(rows, density=density)
        truth = select(of_density, network=names[0])
        axes.plot(numbers(truth, "position"), numbers(truth, "true"), "0.7", lw=4, label="truth")
        for name in names:
            its = select(of_density, network=name)
            learned = numbers(its, "learned")
            axes.plot(numbers(its, "position"), learned, label=name, **style_of(name, names))
        axes.set(title=density, xlabel="$x_1$")
    all_axes[0].set_ylabel("score")
    legend_below(figure, all_axes[0], 4)
    return figure


def contact_sheet(pictures: Mapping[str, Path]) -> Figure:
    """Pictures side by side under their titles, four in a line."""
    from PIL import Image

    columns = min(4, len(pictures))
    figure, all_axes = panels(-(-len(pictures) // columns), columns, width=1.6, height=2.5)
    for axes, (title, path) in zip(all_axes, pictures.items(), strict=False):
        with Image.open(path) as picture:
            axes.imshow(picture.copy())
        axes.set_title(_in_two_lines(title))
        axes.set_anchor("N")
    _hide(all_axes)
    return figure


def _hide(unused: Sequence[Axes]) -> None:
    for axes in unused:
        axes.set_axis_off()


def _in_two_lines(name: str) -> str:
    """A title for a narrow panel: what is in parentheses goes below."""
    return name.replace(" (", "\n(")
