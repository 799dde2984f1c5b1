"""The README's tables, generated from committed result files."""

from __future__ import annotations

from pathlib import Path

from benchmarks.markdown import environment_line, table_lines
from benchmarks.records import read_json
from benchmarks.registry import benchmarks

# What the package is for comes before how it behaves.
FIRST = ("denoising", "deblurring", "physics", "study", "adaptive")
ROOT = Path(__file__).resolve().parent.parent
README, COMMITTED = ROOT / "README.md", ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"


def with_tables(text: str, results: Path) -> str:
    """`text` with everything between the two markers replaced by the headline tables of `results`.

    :raises ValueError: the markers are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README needs the markers {BEGIN} and {END}")
    parts, table = [], benchmarks()
    for name in [*FIRST, *sorted(table.keys() - set(FIRST))]:
        entry = table[name]
        tables = entry.headline(results / name)
        if tables:
            parts += [table_lines(table) for table in tables]
            parts.append(environment_line(name, read_json(results / name / "run.json")))
    middle = "\n\n".join(["", *parts, ""]) if parts else "\n"
    return before + BEGIN + middle + END + after
