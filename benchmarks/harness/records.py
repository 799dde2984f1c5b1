"""Result files: CSV rows and JSON documents, written all or nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convexreg.files import write_atomically


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV file; columns are the keys of all rows in the order they first appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode())


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file as text; none when there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
