"""Saved trials: their means and spreads, and the published numbers to set beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pandas import DataFrame, Series
from torch import Tensor

from benchmarks.harness.records import read_rows, write_rows
from benchmarks.harness.registry import Benchmark
from benchmarks.papers.ensemble import Fit


def texts(values: Tensor, form: str) -> list[str]:
    """Numbers as they are saved."""
    return [f"{value:{form}}" for value in values.tolist()]


class Experiment(Benchmark):
    """Networks trained several times; `trials.csv` has a row for every trial."""

    file = "trials.csv"
    restricted_by = ("methods",)


def trials(label: Mapping[str, object], fitted: Fit, **measured: tuple[Tensor, str]) -> DataFrame:
    """A row for every trial of a network.

    :param label: what the rows have in common.
    :param measured: a number for every trial, and how it is saved.
    """
    return DataFrame(
        {
            **label,
            "trial": range(len(fitted.ensemble)),
            "parameters": fitted.ensemble.parameter_count,
            **{name: texts(values, form) for name, (values, form) in measured.items()},
            "seconds": f"{fitted.seconds:.1f}",
        }
    )


def replace_column(path: Path, name: str, values: Sequence[str]) -> None:
    """Write one column of a CSV file, keeping the others if they have as many rows."""
    rows = read_rows(path)
    rows = rows if len(rows) == len(values) else DataFrame(index=range(len(values)))
    write_rows(path, rows.assign(**{name: values}))


def best_variant(rows: DataFrame, variant: str, criterion: str) -> DataFrame:
    """The rows of the variant whose mean criterion, on validation data, is lowest."""
    means = rows[criterion].astype(float).groupby(rows[variant], sort=False).mean()
    return rows[rows[variant] == means.idxmin()]


def mean_and_spread(values: Series, digits: int = 2) -> str:
    """`mean +- sample standard deviation`; one value alone; a dash without values."""
    numbers = values.dropna().astype(float)
    if numbers.empty:
        return "-"
    mean = f"{numbers.mean():.{digits}f}"
    return f"{mean} ± {numbers.std():.{digits}f}" if len(numbers) > 1 else mean


@cache
def published(experiment: str) -> dict[str, Any]:
    """What the papers report for an experiment, with its source (`published.json`)."""
    path = Path(__file__).with_name("published.json")
    return json.loads(path.read_text(encoding="utf-8"))[experiment]
