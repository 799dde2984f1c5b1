"""Progress on standard error."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from convexreg.solvers.progress import Progress


class ProgressBar:
    """Of a picture: the time left and the certified gap, a bar for each solve (a round, a plane of a large
    image)."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: Any = None
        self.solves = 0

    def __call__(self, progress: Progress) -> None:
        if progress.iteration == 1:
            if self.bar is not None:
                self.bar.close()
            self.solves += 1
            form = "{desc}: {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left{postfix}"
            self.bar = tqdm(
                desc=f"solve {self.solves}",
                total=1.0,
                disable=self.quiet or None,
                leave=False,
                bar_format=form,
            )
        self.bar.update(max(float(progress.done.min()) - self.bar.n, 0.0))
        gap = float(progress.relative_gap.max())
        stationarity = float(progress.stationarity.max())
        proven = f"gap <= {gap:.1e}" if gap < float("inf") else f"gradient {stationarity:.1e}"
        self.bar.set_postfix_str(proven)
        if not bool(progress.active.any()):
            self.bar.close()


def many_bar(total: int, what: str, *, quiet: bool) -> tqdm[Any]:
    """Of `total` files or pictures; a context manager."""
    form = f"{{percentage:3.0f}} %|{{bar}}| {{n:.0f}} of {{total}} {what}, {{elapsed}}, {{remaining}} left"
    return tqdm(total=total, disable=quiet or None, leave=False, bar_format=form)
