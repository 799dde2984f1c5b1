"""Means, standard errors and paired differences of the rows of a comparison."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import mean, median, stdev

from benchmarks.harness.outcome import Outcome

# Differences are paired against the first of these that has results.
BASELINES = ("crr_deq_multinoise (published)", "crr", "TV")


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; NaN for fewer than two values."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else float("nan")


def summarise(rows: Sequence[dict[str, str]]) -> list[dict[str, object]]:
    """One row per problem and method.

    A method that failed on an image has no mean PSNR: the mean over the rest would flatter it.
    """
    groups: dict[str, dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["problem"]][row["method"]].append(row)
    summary = []
    for problem, by_method in groups.items():
        baseline = next((b for b in BASELINES if b in by_method and _complete(by_method[b])), None)
        reference = (
            {row["image"]: float(row["psnr"]) for row in by_method[baseline]} if baseline else {}
        )
        for method, entries in by_method.items():
            summary.append(_row(problem, method, entries, baseline or "", reference))
    return summary


def _complete(entries: list[dict[str, str]]) -> bool:
    return all(row["psnr"] != "" for row in entries)


def _row(
    problem: str,
    method: str,
    entries: list[dict[str, str]],
    baseline: str,
    reference: dict[str, float],
) -> dict[str, object]:
    outcomes: dict[str, int] = defaultdict(int)
    for row in entries:
        outcomes[row["outcome"]] += 1
    result: dict[str, object] = {
        "problem": problem,
        "method": method,
        "images": len(entries),
        "outcomes": "; ".join(f"{outcome} {count}" for outcome, count in outcomes.items()),
        "message": next((row["message"] for row in entries if row["message"]), ""),
        "psnr": "",
        "psnr_error": "",
        "baseline": baseline,
        "difference": "",
        "difference_error": "",
        "weight": entries[0]["weight"],
        "evaluations": "",
        "certified": "",
        "seconds": "",
        "seconds_min": "",
        "seconds_max": "",
    }
    if not _complete(entries) or str(Outcome.SKIPPED) in outcomes:
        return result
    values = {row["image"]: float(row["psnr"]) for row in entries}
    result["psnr"] = f"{mean(values.values()):.3f}"
    result["psnr_error"] = f"{standard_error(list(values.values())):.3f}"
    if reference and method != baseline and values.keys() <= reference.keys():
        differences = [value - reference[image] for image, value in values.items()]
        result["difference"] = f"{mean(differences):.3f}"
        result["difference_error"] = f"{standard_error(differences):.3f}"
    seconds = [float(row["seconds"]) for row in entries]
    result["seconds"] = f"{median(seconds):.3f}"
    result["seconds_min"], result["seconds_max"] = f"{min(seconds):.3f}", f"{max(seconds):.3f}"
    result["evaluations"] = f"{mean(float(row['evaluations']) for row in entries):.1f}"
    result["certified"] = f"{max(float(row['certified']) for row in entries):.1e}"
    return result
