"""Figures of the experiments, from saved rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.papers.fields import Field, grid
from benchmarks.papers.trials import Row, distinct, numbers, select

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def quiver(field: Field, *, arrows: int = 17, side: int = 101) -> Figure:
    """Contours of a function on the unit square and arrows of its gradient."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axis = torch.linspace(0, 1, side)
    heights = field.potential(grid(side)).reshape(side, side)
    axes.contour(axis.numpy(), axis.numpy(), heights.numpy(), 12, cmap="Greys")
    points = grid(arrows)
    gradient = field.gradient(points)
    drawn = axes.quiver(
        *points.T.numpy(), *gradient.T.numpy(), gradient.norm(dim=-1).numpy(), cmap="viridis"
    )
    figure.colorbar(drawn, ax=axes, label="norm of the gradient")
    axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    return figure


def error_maps(rows: Sequence[Row], side: int) -> Figure:
    """One map of the error's norm for every column, on a common logarithmic scale."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    names = list(rows[0])
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(2.2 * columns + 0.6, 2.3 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    errors = {name: torch.tensor(numbers(rows, name)).reshape(side, side).numpy() for name in names}
    highest = max(float(error.max()) for error in errors.values())
    scale = LogNorm(highest * 1e-3, highest)
    for panel, name in zip(panels, names, strict=False):
        drawn = panel.imshow(errors[name], origin="lower", extent=(0, 1, 0, 1), norm=scale)
        panel.set(title=name, xticks=[0, 1], yticks=[0, 1])
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    figure.colorbar(drawn, ax=list(panels), label="norm of the error")
    return figure


def training_curves(rows: Sequence[Row], schedules: Sequence[str]) -> Figure:
    """Validation error against the epoch, one panel for every schedule."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(schedules), 3.2), layout="constrained")
    panels = figure.subplots(1, len(schedules), sharey=True, squeeze=False)[0]
    for panel, schedule in zip(panels, schedules, strict=True):
        for name in distinct(rows, "network"):
            curve = select(rows, network=name, schedule=schedule)
            panel.plot(numbers(curve, "epoch"), numbers(curve, "validation_mse_db"), label=name)
        panel.set(title=f"{schedule} learning rate", xlabel="epoch")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("validation MSE (dB)")
    panels[-1].legend(fontsize="small")
    return figure


def transported_points(rows: Sequence[Row]) -> Figure:
    """Scatter plots of the columns `NAME 0` and `NAME 1`, coloured by the first coordinate before."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(column[:-2] for column in rows[0]))
    columns = -(-len(names) // 2)
    figure = Figure(figsize=(2.1 * columns, 4.4), layout="constrained")
    panels = figure.subplots(2, columns, sharex=True, sharey=True).ravel()
    colours = numbers(rows, "before 0")
    for panel, name in zip(panels, names, strict=False):
        places = (numbers(rows, f"{name} {axis}") for axis in (0, 1))
        panel.scatter(*places, c=colours, s=4, cmap="rainbow", rasterized=True)
        panel.set(title=name, aspect="equal")
        panel.title.set_fontsize(9)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    return figure


def rate_sweep(rows: Sequence[Row]) -> Figure:
    """Test MSE against the learning rate, one panel for every dimension."""
    from matplotlib.figure import Figure

    dimensions = distinct(rows, "dimension")
    figure = Figure(figsize=(3.6 * len(dimensions), 3.2), layout="constrained")
    panels = figure.subplots(1, len(dimensions), squeeze=False)[0]
    for panel, dimension in zip(panels, dimensions, strict=True):
        for name in distinct(rows, "network"):
            its = select(rows, dimension=dimension, network=name)
            panel.semilogx(numbers(its, "learning_rate"), numbers(its, "mse_db"), "o", label=name)
        panel.set(title=f"d = {dimension}", xlabel="learning rate")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("test MSE (dB)")
    panels[-1].legend(fontsize="small")
    return figure


def error_against_width(rows: Sequence[Row]) -> Figure:
    """Test RMSE against width, one panel for every function: lines through the means, dots for trials."""
    from matplotlib.figure import Figure

    functions = distinct(rows, "function")
    figure = Figure(figsize=(2.7 * len(functions) + 0.6, 2.9), layout="constrained")
    panels = figure.subplots(1, len(functions), squeeze=False)[0]
    for panel, function in zip(panels, functions, strict=True):
        for index, name in enumerate(distinct(rows, "network")):
            its = select(rows, function=function, network=name)
            widths = [int(width) for width in distinct(its, "width")]
            errors = [numbers(select(its, width=width), "rmse") for width in widths]
            means = [sum(values) / len(values) for values in errors]
            panel.loglog(widths, means, f"C{index}-", label=name)
            panel.loglog(numbers(its, "width"), numbers(its, "rmse"), f"C{index}.")
        panel.set(title=function, xlabel="width", xticks=widths, xticklabels=map(str, widths))
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("test RMSE")
    panels[0].legend(fontsize="small")
    return figure


def score_slices(rows: Sequence[Row]) -> Figure:
    """The score along a line, true (black) and learned, one panel for every density."""
    from matplotlib.figure import Figure

    densities = distinct(rows, "density")
    figure = Figure(figsize=(3.6 * len(densities), 3.2), layout="constrained")
    panels = figure.subplots(1, len(densities), squeeze=False)[0]
    for panel, density in zip(panels, densities, strict=True):
        for index, name in enumerate(distinct(rows, "network")):
            its = select(rows, density=density, network=name)
            position = numbers(its, "position")
            if index == 0:
                panel.plot(position, numbers(its, "true"), "k", lw=3, alpha=0.3, label="truth")
            panel.plot(position, numbers(its, "learned"), lw=1, label=name)
        panel.set(title=density, xlabel="$x_1$")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("score")
    panels[0].legend(fontsize="small")
    return figure


def contact_sheet(path: Path, titles: Sequence[str], tile: tuple[int, int]) -> Figure:
    """A sheet of equal tiles with a title above every column."""
    from matplotlib.figure import Figure
    from PIL import Image

    with Image.open(path) as sheet:
        picture = sheet.copy()
    height, width = tile
    lines = picture.height // height
    figure = Figure(figsize=(1.5 * len(titles), 1.0 * lines + 0.4), layout="constrained")
    panels = figure.subplots(lines, len(titles), squeeze=False)
    for line in range(lines):
        for column, title in enumerate(titles):
            left, top = column * width, line * height
            panel = panels[line][column]
            panel.imshow(picture.crop((left, top, left + width, top + height)))
            panel.set_axis_off()
            if line == 0:
                panel.set_title(title, fontsize=9)
    return figure
