"""How a solve went, iteration by iteration, and its picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .progress import Progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Track:
    """One solve after every iteration: `(iterations, B)` in float64, on the CPU.

    :ivar evaluations: gradient evaluations so far.
    :ivar relative_gap: certified, in the precision of the solve; `inf` where nothing is proven yet.
    :ivar stationarity: rms of the gradient (with a box, of the gradient mapping).
    """

    evaluations: Tensor
    relative_gap: Tensor
    stationarity: Tensor

    def __repr__(self) -> str:
        iterations, images = self.relative_gap.shape
        last = float(self.relative_gap[-1].max())
        return f"Track({iterations} iterations of {images} image(s), relative gap <= {last:.2g})"


class History:
    """A callback of `minimise` and `reconstruct` that keeps the numbers of every iteration.

    A solve that begins again (the next round of an adaptive model, the next plane of a large image) is a
    track of its own. Three numbers per image and iteration are kept, no images.
    """

    def __init__(self) -> None:
        self._solves: list[list[Tensor]] = []

    def __call__(self, progress: Progress) -> None:
        if progress.iteration == 1 or not self._solves:
            self._solves.append([])
        numbers = (progress.evaluations, progress.relative_gap, progress.stationarity)
        self._solves[-1].append(torch.stack([number.detach().double() for number in numbers]))

    def before(self, callback: Callable[[Progress], None] | None) -> Callable[[Progress], None]:
        """A callback that keeps the numbers and then calls `callback`, if there is one."""

        def follow(progress: Progress) -> None:
            self(progress)
            if callback is not None:
                callback(progress)

        return follow

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The solves in their order."""
        return tuple(Track(*torch.stack(solve, 1).cpu()) for solve in self._solves)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the certified relative gap against gradient evaluations, one line per solve and image.

        Of solves without a certificate the rms of the gradient is drawn.

        :param axes: of matplotlib, to draw into; those of a new figure of pyplot by default.
        :return: the axes; `axes.figure.savefig(...)` writes the picture.
        :raises ValueError: nothing was recorded.
        :raises ModuleNotFoundError: there is no matplotlib.
        """
        tracks = self.tracks
        if not tracks:
            raise ValueError(
                "there is no iteration to draw: give the history to a solve as its callback"
            )
        axes = _new_axes() if axes is None else axes
        certified = any(bool(track.relative_gap.isfinite().any()) for track in tracks)
        for number, track in enumerate(tracks):
            heights = track.relative_gap if certified else track.stationarity
            heights = torch.where(heights.isfinite() & (heights > 0), heights, float("nan"))
            for image in range(heights.shape[1]):
                names = [f"solve {number + 1}"] * (len(tracks) > 1)
                names += [f"image {image}"] * (heights.shape[1] > 1)
                points = track.evaluations[:, image].numpy(), heights[:, image].numpy()
                axes.plot(*points, marker=".", label=", ".join(names) or None)
        axes.set_yscale("log")
        axes.set_xlabel("gradient evaluations")
        axes.set_ylabel("certified relative gap" if certified else "rms of the gradient")
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        return axes

    def __repr__(self) -> str:
        return f"History({', '.join(map(repr, self.tracks))})"


def _new_axes() -> Axes:
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "drawing needs matplotlib: pip install matplotlib, or use `tracks`, which are the numbers"
        ) from error
    return pyplot.subplots(layout="constrained")[1]
