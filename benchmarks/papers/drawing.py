"""Figures of the experiments, from saved rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pandas import DataFrame

from benchmarks.harness.drawing import legend_below, panels, style_of
from benchmarks.papers.fields import Field, grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Panels = Iterator[tuple[Any, DataFrame, Any]]


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


def error_maps(rows: DataFrame, order: Sequence[str], side: int) -> Figure:
    """One map of the error's norm in dB for every column, on a common scale over 30 dB."""
    names = [name for name in order if name in rows]
    figure, all_axes = panels(len(names), 4, width=2.0, height=2.2)
    errors = {name: rows[name].astype(float).to_numpy().reshape(side, side) for name in names}
    highest = max(float(error.max()) for error in errors.values())
    for axes, name in zip(all_axes, names, strict=True):
        drawn = axes.imshow(
            errors[name], origin="lower", extent=(0, 1, 0, 1), vmin=highest - 30, vmax=highest
        )
        axes.set(title=_in_two_lines(name), xticks=[0, 1], yticks=[0, 1])
        axes.grid(False)
    figure.colorbar(drawn, ax=all_axes, label="norm of the error (dB)")
    return figure


def training_curves(rows: DataFrame) -> Figure:
    """Validation loss against the epoch, one line for every network."""
    figure, (axes,) = panels(1, 1, width=4.8, height=4.0)
    names = rows["network"].unique()
    for name, curve in rows.groupby("network", sort=False):
        values = curve[["epoch", "validation_db"]].astype(float).to_numpy().T
        axes.plot(*values, label=name, **style_of(name, names))
    axes.set(xlabel="epoch", ylabel="validation loss (dB)")
    legend_below(figure, axes, 3)
    return figure


def transported_points(rows: DataFrame) -> Figure:
    """Scatter plots of the columns `NAME 0` and `NAME 1`, coloured by the first coordinate before."""
    names = list(dict.fromkeys(str(column)[:-2] for column in rows))
    figure, all_axes = panels(len(names), 3, width=1.8, height=1.9, shared=True)
    numbers = rows.astype(float)
    for axes, name in zip(all_axes, names, strict=True):
        places = (numbers[f"{name} {axis}"] for axis in (0, 1))
        axes.scatter(*places, c=numbers["before 0"], s=3, cmap="rainbow", rasterized=True)
        axes.set(title=_in_two_lines(name), aspect="equal")
    return figure


def _by(rows: DataFrame, column: str, width: float, x: str, y: str) -> Panels:
    """A panel for every value of a column, with its rows; names of the networks to draw."""
    values, names = rows[column].unique(), rows["network"].unique()
    figure, all_axes = panels(len(values), len(values), width=width, height=3.2)
    for axes, value in zip(all_axes, values, strict=True):
        yield axes, rows[rows[column] == value], names
        axes.set(title=f"d = {value}" if column == "dimension" else value, xlabel=x)
    all_axes[0].set_ylabel(y)
    legend_below(figure, all_axes[0], 3)


def rate_sweep(rows: DataFrame) -> Figure:
    """Test MSE against the learning rate, one panel for every dimension."""
    numbers = rows.astype({"learning_rate": float, "mse_db": float})
    for axes, part, names in _by(numbers, "dimension", 2.8, "learning rate", "test MSE (dB)"):
        for name, its in part.groupby("network", sort=False):
            style = style_of(name, names) | {"linestyle": "none", "marker": "o"}
            axes.semilogx(its["learning_rate"], its["mse_db"], label=name, **style)
    return axes.figure


def error_against_width(rows: DataFrame) -> Figure:
    """Test RMSE against width, one panel for every function: lines through the means, dots for trials."""
    for axes, part, names in _by(rows, "function", 2.4, "width", "test RMSE"):
        for name, its in part.groupby("network", sort=False):
            means, style = its.groupby("width")["rmse"].mean(), style_of(name, names)
            axes.loglog(means.index, means, label=name, **style)
            axes.loglog(its["width"], its["rmse"], ".", color=style["color"])
            axes.set_xticks(means.index, [str(width) for width in means.index])
        axes.minorticks_off()
    return axes.figure


def score_slices(rows: DataFrame) -> Figure:
    """The score along a line, true (grey) and learned, one panel for every density."""
    numbers = rows.astype({"position": float, "true": float, "learned": float})
    for axes, part, names in _by(numbers, "density", 2.8, "$x_1$", "score"):
        truth = part[part["network"] == names[0]]
        axes.plot(truth["position"], truth["true"], "0.7", lw=4, label="truth")
        for name, its in part.groupby("network", sort=False):
            axes.plot(its["position"], its["learned"], label=name, **style_of(name, names))
    return axes.figure


def contact_sheet(pictures: Mapping[str, Path]) -> Figure:
    """Pictures side by side under their titles, four in a line."""
    from PIL import Image

    figure, all_axes = panels(len(pictures), 4, width=1.6, height=2.5)
    for axes, (title, path) in zip(all_axes, pictures.items(), strict=True):
        with Image.open(path) as picture:
            axes.imshow(picture.copy())
        axes.set_title(_in_two_lines(title))
        axes.set_anchor("N")
        axes.set_axis_off()
    return figure


def _in_two_lines(name: str) -> str:
    """A title for a narrow panel: what is in parentheses goes below."""
    return name.replace(" (", "\n(")
