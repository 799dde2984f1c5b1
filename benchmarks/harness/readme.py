"""The tables of the README and of docs/results.md, generated from committed result files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.markdown import environment_line, table_lines
from benchmarks.harness.records import read_json
from benchmarks.harness.registry import benchmarks

HEADLINES = ("denoising", "deblurring", "study")
"""What the package is for. How it behaves is in the details."""
ROOT = Path(__file__).resolve().parent.parent.parent
README, DETAILS = ROOT / "README.md", ROOT / "docs" / "results.md"
COMMITTED = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"


def details() -> list[str]:
    """The benchmarks whose tables are not headlines; other physics come first."""
    return ["physics", *(name for name in benchmarks() if name not in (*HEADLINES, "physics"))]


def with_tables(text: str, results: Path, names: Sequence[str]) -> str:
    """`text` with everything between the two markers replaced by the tables of these benchmarks.

    :raises ValueError: the markers are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text needs the markers {BEGIN} and {END} for the tables")
    parts, table = [], benchmarks()
    for name in names:
        entry = table[name]
        tables = entry.headline(results / name)
        if tables:
            parts += [table_lines(table) for table in tables]
            parts.append(environment_line(name, read_json(results / name / "run.json")))
    middle = "\n\n".join(["", *parts, ""]) if parts else "\n"
    return before + BEGIN + middle + END + after
