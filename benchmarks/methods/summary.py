"""Means, standard errors and paired differences of the rows of a comparison."""

from __future__ import annotations

from pandas import DataFrame, Series

from benchmarks.harness.outcome import Outcome

# Differences are paired against the first of these that has results.
BASELINES = ("crr_deq_multinoise (published)", "crr", "TV")


def mean_with_error(values: Series, form: str = ".2f", *, sign: bool = False) -> str:
    """The mean and its standard error, which a single value does not have."""
    mean = f"{values.mean():{'+' if sign else ''}{form}}"
    return f"{mean} ± {values.sem():{form}}" if len(values) > 1 else mean


def summarise(rows: DataFrame) -> DataFrame:
    """One row per problem and method.

    A method that failed on an image has no mean PSNR: the mean over the rest would flatter it.
    """
    numbers = dict.fromkeys(("psnr", "evaluations", "certified", "seconds"), float)
    summary = []
    for _, of_problem in rows.astype(numbers).groupby("problem", sort=False):
        scores = of_problem.pivot_table("psnr", "image", "method", sort=False, dropna=False)
        complete = [name for name in BASELINES if name in scores and scores[name].notna().all()]
        baseline = complete[0] if complete else ""
        for method, its in of_problem.groupby("method", sort=False):
            reference = scores[baseline] if baseline and method != baseline else None
            summary.append(_row(its.set_index("image"), baseline, reference))
    return DataFrame(summary, dtype=object)


def _row(its: DataFrame, baseline: str, reference: Series | None) -> dict[str, object]:
    outcomes = its.groupby("outcome", sort=False).size()
    messages = its["message"].dropna()
    row: dict[str, object] = {
        "problem": its["problem"].iloc[0],
        "method": its["method"].iloc[0],
        "images": len(its),
        "outcomes": "; ".join(f"{outcome} {count}" for outcome, count in outcomes.items()),
        "message": messages.iloc[0] if len(messages) else None,
        **dict.fromkeys(("psnr", "psnr_error")),
        "baseline": baseline,
        **dict.fromkeys(("difference", "difference_error")),
        "weight": f"{its['weight'].astype(float).median():.4g}",
        **dict.fromkeys(("evaluations", "certified", "seconds", "seconds_min", "seconds_max")),
    }
    if its["psnr"].isna().any() or str(Outcome.SKIPPED) in outcomes:
        return row
    compared = {"psnr": its["psnr"]}
    if reference is not None and its.index.isin(reference.index).all():
        compared["difference"] = its["psnr"] - reference[its.index]
    for key, values in compared.items():
        row[key], row[f"{key}_error"] = f"{values.mean():.3f}", f"{values.sem():.3f}"
    seconds = its["seconds"]
    row["seconds"] = f"{seconds.median():.3f}"
    row["seconds_min"], row["seconds_max"] = f"{seconds.min():.3f}", f"{seconds.max():.3f}"
    row["evaluations"] = f"{its['evaluations'].mean(skipna=False):.1f}"
    row["certified"] = f"{its['certified'].max(skipna=False):.1e}"
    return row
