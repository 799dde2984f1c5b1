"""The report: Markdown and one self-contained HTML page, from saved result files only."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import pandas

from benchmarks.harness.markdown import environment_line, environment_text, table_lines
from benchmarks.harness.records import read_json
from benchmarks.harness.registry import Benchmark, Figure, Table, with_results
from convexreg.files import write_atomically


def write_report(results: Path, out: Path) -> Path:
    """Write `index.html`, and `report.md` with its figures, into `out`; returns the page's path.

    :param results: a folder with one folder of results per benchmark.
    :raises ValueError: there are no results.
    """
    entries = with_results(results)
    if not entries:
        raise ValueError(f"there are no results in {results}; run a benchmark first")
    out.mkdir(parents=True, exist_ok=True)
    sections, parts = [], ["# Benchmarks"]
    for entry in entries:
        folder = results / entry.name
        tables, figures = entry.tables(folder), entry.figures(folder)
        images = [(figure, _svg(figure)) for figure in figures]
        parts.append(f"## {entry.name}\n\n{entry.description}.")
        parts.append(environment_line(entry.name, read_json(folder / "run.json")))
        for figure, image in images:
            write_atomically(out / f"{figure.name}.svg", image)
            parts.append(f"![{figure.caption}]({figure.name}.svg)")
        parts += [table_lines(table) for table in tables]
        sections.append(_section(entry, folder, tables, images))
    write_atomically(out / "report.md", ("\n\n".join(parts) + "\n").encode())
    page = out / "index.html"
    write_atomically(page, _page(entries, sections).encode())
    return page


def _svg(figure: Figure) -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": figure.name, "svg.fonttype": "path"}):
        figure.canvas.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _section(
    entry: Benchmark, folder: Path, tables: list[Table], images: list[tuple[Figure, bytes]]
) -> str:
    drawn = "".join(
        f'<figure><img alt="{html.escape(figure.caption)}" '
        f'src="data:image/svg+xml;base64,{base64.b64encode(image).decode()}">'
        f"<figcaption>{html.escape(figure.caption)}</figcaption></figure>"
        for figure, image in images
    )
    first, *others = [_table(table) for table in tables] or [""]
    more = f"<details><summary>All tables</summary>{''.join(others)}</details>" if others else ""
    return (
        f'<section id="{entry.name}"><h2>{html.escape(entry.name)}</h2>'
        f"<p>{html.escape(entry.description)}.</p>"
        f'<p class="stamp"><code>python -m benchmarks run {entry.name}</code><br>'
        f"{html.escape(environment_text(read_json(folder / 'run.json')))}</p>"
        f'{first}<div class="figures">{drawn}</div>{more}</section>'
    )


def _table(table: Table) -> str:
    with pandas.option_context("display.max_colwidth", None):
        rows = table.rows.to_html(index=False, border=0, justify="left", na_rep="")
    return (
        f'<h3>{html.escape(table.title)}</h3><div class="scroll" tabindex="0">{rows}</div>'
        f'<p class="note">{html.escape(table.note)}</p>'
    )


def _page(entries: list[Benchmark], sections: list[str]) -> str:
    links = "".join(f'<a href="#{entry.name}">{html.escape(entry.name)}</a>' for entry in entries)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>convexreg benchmarks</title><style>{_CSS}</style></head><body>"
        f"<header><h1>convexreg benchmarks</h1><nav>{links}</nav></header>"
        f"<main>{''.join(sections)}</main></body></html>\n"
    )


_CSS = """
:root { color-scheme: light; --line: #d8dde3; --soft: #f5f7f9; --quiet: #57606a; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: #1f2328; }
header, main { max-width: 72rem; margin: 0 auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.3rem; border-top: 2px solid var(--line); } h3 { font-size: 1rem; }
nav { display: flex; flex-wrap: wrap; gap: .4rem 1rem; }
.stamp, .note, figcaption { color: var(--quiet); font-size: .85rem; }
code { font-size: .9em; background: var(--soft); }
.scroll { overflow-x: auto; border: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: left; border-bottom: 1px solid var(--line); min-width: 6rem; }
td:first-child { position: sticky; left: 0; background: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)) }
figure { margin: 0; } figure img { width: 100%; height: auto; }
"""
