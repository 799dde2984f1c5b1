"""Tables as Markdown, and those of two pages in docs/, made from committed result files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.options import Options
from benchmarks.harness.records import read_json
from benchmarks.harness.registry import Table, benchmarks, with_results

HEADLINES = ("times", "denoising", "colour-cbsd68", "deblurring", "study")
"""What the package is for: the page of results. How it behaves is on a page of its own."""
ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS, BEHAVIOUR = ROOT / "docs" / "results.md", ROOT / "docs" / "behaviour.md"
COMMITTED = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"


def table_lines(table: Table) -> str:
    """A table, its title above and its note below."""
    text = table.rows.where(table.rows.notna(), "").astype(str)
    cells = [
        [cell.replace("|", "\\|") for cell in line] for line in (text.columns, *text.to_numpy())
    ]
    first, *others = (f"| {' | '.join(line)} |" for line in cells)
    lines = [first, "|" + "---|" * len(text.columns), *others]
    return "\n\n".join(
        part for part in (f"**{table.title}**", "\n".join(lines), table.note) if part
    )


def environment_line(name: str, document: dict[str, Any]) -> str:
    """On what the results were computed, and the command that computes them again."""
    command = " ".join(["python -m benchmarks run", name, *_options(document)])
    return f"`{command}`: {environment_text(document)}."


def _options(document: dict[str, Any]) -> list[str]:
    """The options that say which images and models, as far as all runs share them."""
    names = ("images", "limit", "crop", "tuning_images", "tuning_limit", "tuning_crop", "models")
    runs = [run["options"] for run in document.get("runs", [])]
    options = {n: runs[-1][n] for n in names if len({str(run[n]) for run in runs}) == 1}
    if options.get("models"):
        options["models"] = ",".join(options["models"])
    if options.get("tuning_crop") == Options().tuning_crop:
        del options["tuning_crop"]
    # the methods without published weights are the same with them
    options["weights"] = next((run["weights"] for run in runs if run["weights"]), None)
    return [f"--{name.replace('_', '-')} {value}" for name, value in options.items() if value]


def environment_text(document: dict[str, Any]) -> str:
    """Processor, threads, versions, commits and dates of the runs in a `run.json`; whether one was tiny."""
    runs = document.get("runs", [])
    if not runs:
        return "no record of the run"
    setups = dict.fromkeys(_setup(run["environment"]) for run in runs)
    commits = dict.fromkeys(str(run["environment"]["commit"]) for run in runs)
    days = dict.fromkeys(run["environment"]["date"][:10] for run in runs)
    tiny = (
        "smallest input, only to see that it runs; "
        if any(run["options"]["tiny"] for run in runs)
        else ""
    )
    return f"{tiny}{'; '.join(setups)}, commit {', '.join(commits)}, {', '.join(days)}"


def _setup(environment: dict[str, Any]) -> str:
    processor = environment["cpu"] if environment["device"] == "cpu" else environment["device"]
    versions = environment["versions"]
    return (
        f"{processor}, {environment['threads']} thread(s), torch {versions['torch']}, "
        f"deepinv {versions['deepinv']}"
    )


def behaviour() -> list[str]:
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
    parts, found = [], {entry.name: entry for entry in with_results(results)}
    for name in (name for name in names if name in found):
        if tables := found[name].headline(results / name):
            parts += [table_lines(table) for table in tables]
            parts.append(environment_line(name, read_json(results / name / "run.json")))
    middle = "\n\n".join(["", *parts, ""]) if parts else "\n"
    return before + BEGIN + middle + END + after
