"""Result files: CSV tables and JSON documents, written all or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
from pandas import DataFrame

from convexreg.files import write_atomically

Rows = DataFrame | Sequence[Mapping[str, object]]


def write_rows(path: Path, rows: Rows) -> None:
    """Write a CSV file; columns are the keys of all rows in the order they first appear."""
    table = DataFrame(rows, dtype=object)
    write_atomically(path, table.to_csv(index=False, lineterminator="\n").encode())


def read_rows(path: Path) -> DataFrame:
    """A CSV file as text, NaN where a cell is empty; no rows when there is no file."""
    if not path.is_file() or not path.read_text(encoding="utf-8").strip():
        return DataFrame()
    return pandas.read_csv(path, dtype=str, keep_default_na=False, na_values=[""]).astype(object)


def replace_rows(path: Path, rows: Rows, *columns: str) -> None:
    """Write rows to a CSV file in place of those that agree with one of them in these columns.

    Other rows are kept: a run of one method adds to the results of the others.
    """
    old, new = read_rows(path), DataFrame(rows, dtype=object)
    if len(old) and len(new):
        keys = (
            pandas.MultiIndex.from_frame(each[list(columns)].astype(str)) for each in (old, new)
        )
        old = old[~next(keys).isin(next(keys))]
    write_rows(path, pandas.concat([old, new]))


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document."""
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON document; empty when there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def keep_protocol(folder: Path, protocol: Mapping[str, Any]) -> None:
    """Write down what the rows of a folder have in common, so that later runs can add to them.

    :raises ValueError: the folder holds results of another protocol.
    """
    known = read_json(folder / "protocol.json")
    if known and known != protocol:
        differing = ", ".join(
            f"{key} {known.get(key)!r} instead of {protocol.get(key)!r}"
            for key in {**known, **protocol}
            if known.get(key) != protocol.get(key)
        )
        raise ValueError(
            f"{folder} holds results of another protocol ({differing}); choose another --results folder, or "
            "remove it"
        )
    write_json(folder / "protocol.json", protocol)
