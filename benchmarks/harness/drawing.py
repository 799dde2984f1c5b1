"""The one look of all figures: small enough for a phone, readable without colour vision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Okabe & Ito's colours that show on white, then the same again with another dash.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "svg.hashsalt": "convexreg",
    "svg.fonttype": "path",
}


def canvas(*, title: str, x: str, y: str, height: float = 3.6) -> tuple[Canvas, Axes]:
    """An empty plot 4.8 inches wide, which is a phone's width at its natural size."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(_STYLE):
        figure = Canvas(figsize=(4.8, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
    return figure, axes


def panels(
    count: int, columns: int, *, width: float = 2.4, height: float = 2.4, shared: bool = False
) -> tuple[Canvas, list[Axes]]:
    """A figure of `count` empty plots, row by row, each `width` by `height` inches.

    :param columns: at most so many beside one another.
    :param shared: whether all have the same axes.
    """
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    columns = min(columns, count)
    lines = -(-count // columns)
    with matplotlib.rc_context(_STYLE):
        figure = Canvas(figsize=(width * columns, height * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False, sharex=shared, sharey=shared)
    for unused in axes.ravel()[count:]:
        unused.set_axis_off()
    return figure, list(axes.ravel()[:count])


def style_of(name: object, names: Iterable[object]) -> dict[str, Any]:
    """Colour and dash of a method among `names`, the same in every figure of a report."""
    number = list(dict.fromkeys(names)).index(name)
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "linestyle": _DASHES[number // len(_COLOURS) % len(_DASHES)],
    }


def labelled(axes: Axes, xs: Iterable[float], ys: Iterable[float], names: Iterable[str]) -> None:
    """Points with their names above them."""
    for x, y, name in zip(xs, ys, names, strict=True):
        axes.plot(x, y, "o", markersize=4, color=_COLOURS[0])
        axes.annotate(name, (x, y), (0, 4), textcoords="offset points", ha="center", fontsize=8)


def ticks_of_seconds(axes: Axes) -> None:
    """1, 2 and 5 of every decade on a logarithmic axis, in plain numbers."""
    from matplotlib.ticker import LogLocator

    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")


def legend_below(figure: Canvas, axes: Axes, columns: int = 2) -> None:
    """The legend under the plot, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )
