"""The report: Markdown, from saved result files only."""

from __future__ import annotations

import io
from pathlib import Path

from benchmarks.registry import Figure, Table, benchmarks
from convexreg.files import write_atomically


def write_report(results: Path, out: Path) -> Path:
    """Write `report.md` and its figures into `out` from the folders of results under `results`.

    :raises ValueError: there are no results.
    """
    entries = [entry for name, entry in sorted(benchmarks().items()) if (results / name).is_dir()]
    if not entries:
        raise ValueError(f"there are no results in {results}; run a benchmark first")
    out.mkdir(parents=True, exist_ok=True)
    parts = ["# Benchmarks"]
    for entry in entries:
        folder = results / entry.name
        parts.append(f"## {entry.name}\n\n{entry.description}.")
        parts += [markdown_table(table) for table in entry.tables(folder)]
        for figure in entry.figures(folder):
            write_atomically(out / f"{figure.name}.svg", svg(figure))
            parts.append(f"![{figure.caption}]({figure.name}.svg)\n\n{figure.caption}")
    path = out / "report.md"
    write_atomically(path, ("\n\n".join(parts) + "\n").encode())
    return path


def markdown_table(table: Table) -> str:
    """A table in Markdown, its title above and its note below."""
    columns = list(table.rows[0]) if table.rows else []
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(str(row[key]) for key in columns) + " |" for row in table.rows),
    ]
    return "\n\n".join(
        part for part in (f"**{table.title}**", "\n".join(lines), table.note) if part
    )


def svg(figure: Figure) -> bytes:
    """The figure as SVG."""
    buffer = io.BytesIO()
    figure.canvas.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
