"""Saved trials: their means and spreads, and the published numbers to set beside them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.harness.records import read_rows, write_rows

Row = Mapping[str, str]


def select(rows: Iterable[Row], **values: object) -> list[Row]:
    """The rows with these values in these columns."""
    wanted = {column: str(value) for column, value in values.items()}
    return [row for row in rows if all(row[c] == v for c, v in wanted.items())]


def distinct(rows: Iterable[Row], column: str) -> list[str]:
    """The values of a column in the order they first appear."""
    return list(dict.fromkeys(row[column] for row in rows))


def numbers(rows: Iterable[Row], column: str) -> list[float]:
    """A column as numbers, empty cells left out."""
    return [float(row[column]) for row in rows if row[column]]


def replace_rows(path: Path, rows: Sequence[Mapping[str, object]], *columns: str) -> None:
    """Write rows to a CSV file in place of those that agree with one of them in these columns.

    Other rows are kept: a run of one method adds to the results of the others.
    """

    def key(row: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(str(row[column]) for column in columns)

    new = {key(row) for row in rows}
    write_rows(path, [*(row for row in read_rows(path) if key(row) not in new), *rows])


def replace_column(path: Path, name: str, values: Sequence[str]) -> None:
    """Write one column of a CSV file, keeping the others if they have as many rows."""
    rows = read_rows(path)
    if len(rows) != len(values):
        rows = [{} for _ in values]
    write_rows(path, [row | {name: value} for row, value in zip(rows, values, strict=True)])


def best_variant(rows: Sequence[Row], variant: str, criterion: str) -> list[Row]:
    """The rows of the variant whose mean criterion, on validation data, is lowest."""
    groups = [select(rows, **{variant: value}) for value in distinct(rows, variant)]
    return min(groups, key=lambda group: statistics.fmean(numbers(group, criterion)))


def mean_and_spread(values: Sequence[float], digits: int = 2) -> str:
    """`mean +- sample standard deviation`; one value alone; a dash without values."""
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


@cache
def published(experiment: str) -> dict[str, Any]:
    """What the papers report for an experiment, with its source (`published.json`)."""
    path = Path(__file__).with_name("published.json")
    return json.loads(path.read_text(encoding="utf-8"))[experiment]
