"""A photograph through an operator, part by part, and what is said of the results."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from convexreg.pictures.blocks import PictureTooSmall
from convexreg.pictures.photograph import Photograph
from convexreg.reconstruction.result import Reconstruction
from convexreg.restoration.result import Restoration
from convexreg.solvers.progress import Progress
from convexreg.solvers.solution import Status

Follow = Callable[[Progress], None]


@dataclass(frozen=True)
class Told:
    """What is said of a photograph.

    :ivar reports: on every part that was reconstructed.
    :ivar summaries: the same in words.
    :ivar codes: of `Status`.
    :ivar said: by the command besides.
    :ivar notes: what has to be known, one sentence each.
    """

    reports: tuple[dict[str, Any], ...]
    summaries: tuple[str, ...]
    codes: frozenset[int]
    said: dict[str, Any]
    notes: tuple[str, ...] = ()


RestorePart = Callable[..., Restoration]
Restore = Callable[[Photograph, "Follow | None"], "tuple[Photograph, Told]"]


def parse_weight(text: str) -> float | Literal["auto", "discrepancy", "sure"]:
    """A number, or the name of a rule that finds one.

    :raises ValueError: neither of them.
    """
    match text:
        case "auto" | "discrepancy" | "sure":
            return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f'the weight must be a number, "auto", "discrepancy" or "sure", got "{text}"'
        ) from None


def restored(
    options: argparse.Namespace,
    photograph: Photograph,
    parts: list[Tensor],
    restore: RestorePart,
    follow: Follow | None,
    **said: Any,
) -> tuple[Photograph, Told]:
    """Every part `(C, H, W)` restored alone; beside others a constant one stays constant.

    :param restore: a part, by its number, with the options of `reconstruct`.
    """
    flat = [len(parts) > 1 and bool(part.min() == part.max()) for part in parts]
    flat = [False] * len(parts) if all(flat) else flat
    images: dict[int, Tensor] = {}
    reports, summaries, notes = [], [], []
    codes: set[int] = set()
    for index, part in enumerate(parts):
        if flat[index]:
            continue
        with _advice():
            found = restore(
                part.to(options.device),
                index,
                regularizer=options.model,
                lam=parse_weight(options.lam),
                accuracy=options.accuracy,
                gap_tol=options.gap,
                max_iter=options.max_iter,
                callback=follow,
            )
        images[index] = found.image.cpu()
        reports.append(_reported(found))
        summaries.append("copied" if found.result is None else found.result.summary(sigma=False))
        notes += found.notes
        codes |= set() if found.result is None else set(found.result.status.tolist())
    size = next(iter(images.values())).shape[-2:]
    for index, part in enumerate(parts):
        if flat[index]:
            images[index] = part[:, :1, :1].expand(-1, *size)
    told = Told(tuple(reports), tuple(summaries), frozenset(codes), said, tuple(notes))
    return photograph.with_parts([images[index] for index in range(len(parts))]), told


@contextmanager
def _advice() -> Iterator[None]:
    """Errors that a noise level would help against say so."""
    try:
        yield
    except PictureTooSmall as error:
        raise ValueError(f"{error}; give the level: --sigma 0.1, or --sigma 25/255") from error


def _reported(restoration: Restoration) -> dict[str, Any]:
    noise = restoration.noise
    extra: dict[str, Any] = {"sigma": round(restoration.sigma, 7)}
    if noise.gain > 0:
        extra["gain"] = float(f"{noise.gain:.6g}")
    elif noise.estimate is not None:
        extra["sigma_of_planes"] = [round(level, 7) for level in noise.estimate.levels]
    if restoration.result is None:
        return {**extra, "status": "copied"}
    return report(restoration.result, extra)


def report(result: Reconstruction, extra: dict[str, Any]) -> dict[str, Any]:
    """What `--json` prints; infinite certificates are null."""
    relative = float(result.certificate.relative_gap[0])
    return {
        **extra,
        "status": Status(int(result.status[0])).name.lower(),
        "certified_relative_gap": relative if relative < float("inf") else None,
        "iterations": int(result.iterations[0]),
        "gradient_evaluations": float(result.evaluations[0]),
        "lam": float(result.lam[0]),
        "method": result.method,
        "seconds": round(result.seconds, 3),
        **({} if result.first is None else {"first_round": report(result.first, {})}),
    }


def digest(pages: list[Told]) -> str:
    """All reports on the pictures of a file in a line."""
    reports = [report for page in pages for report in page.reports]
    levels = sorted({report["sigma"] for report in reports})
    shown = f"{levels[0]:.4g}" + (f" to {levels[-1]:.4g}" if len(levels) > 1 else "")
    gaps = [report["certified_relative_gap"] for report in reports if report["status"] != "copied"]
    if not gaps:
        proven = "copied"
    elif None in gaps:
        proven = "no certificate"
    else:
        proven = f"certified relative gap {max(gaps):.1e}"
    number = f"{len(reports)} reconstructions, " if len(reports) > 1 else ""
    return f"{number}sigma {shown}, {proven}"
