"""A photograph through an operator, part by part, and what is said of the results."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from convexreg.pictures.photograph import Photograph
from convexreg.reconstruction.from_measurements import Reconstruction, reconstruct
from convexreg.solvers.loop import Progress
from convexreg.solvers.solution import Status

Follow = Callable[[Progress], None]


@dataclass(frozen=True)
class Posed:
    """What is reconstructed: measurements `(1, C, H, W)` through an operator.

    :ivar x0: start and anchor instead of the usual ones.
    :ivar margins: rows and columns of the reconstruction beyond the photograph, on either side.
    """

    y: Tensor
    physics: Any
    sigma: float
    x0: Tensor | None = None
    margins: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Told:
    """What is said of a photograph.

    :ivar reports: on every part that was reconstructed.
    :ivar summaries: the same in words.
    :ivar codes: of `Status`.
    :ivar said: by the command besides.
    """

    reports: tuple[dict[str, Any], ...]
    summaries: tuple[str, ...]
    codes: frozenset[int]
    said: dict[str, Any]


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
    pose: Callable[[Tensor, int], Posed],
    follow: Follow | None,
    **said: Any,
) -> tuple[Photograph, Told]:
    """Every part `(C, H, W)` reconstructed alone; beside others a constant one stays constant.

    :param pose: of a part and its number.
    """
    flat = [len(parts) > 1 and bool(part.min() == part.max()) for part in parts]
    flat = [False] * len(parts) if all(flat) else flat
    images: dict[int, Tensor] = {}
    results: dict[int, tuple[Reconstruction, float]] = {}
    for index, part in enumerate(parts):
        if flat[index]:
            continue
        posed = pose(part, index)
        result = reconstruct(
            posed.y.to(options.device),
            posed.physics,
            sigma=posed.sigma,
            x0=posed.x0,
            regularizer=options.model,
            lam=parse_weight(options.lam),
            accuracy=options.accuracy,
            gap_tol=options.gap,
            max_iter=options.max_iter,
            callback=follow,
        )
        rows, columns = posed.margins
        height, width = result.image.shape[-2:]
        image = result.image[0, :, rows : height - rows, columns : width - columns]
        images[index], results[index] = image.cpu(), (result, posed.sigma)
    size = next(iter(images.values())).shape[-2:]
    for index, part in enumerate(parts):
        if flat[index]:
            images[index] = part[:, :1, :1].expand(-1, *size)
    found = [result for result, _ in results.values()]
    told = Told(
        tuple(
            report(result, {"sigma": round(float(level), 5)}) for result, level in results.values()
        ),
        tuple(result.summary() for result in found),
        frozenset(code for result in found for code in result.status.tolist()),
        said,
    )
    return photograph.with_parts([images[index] for index in range(len(parts))]), told


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
    shown = f"{levels[0]:g}" + (f" to {levels[-1]:g}" if len(levels) > 1 else "")
    gaps = [report["certified_relative_gap"] for report in reports]
    proven = "no certificate" if None in gaps else f"certified relative gap {max(gaps):.1e}"
    number = f"{len(reports)} reconstructions, " if len(reports) > 1 else ""
    return f"{number}sigma {shown}, {proven}"
