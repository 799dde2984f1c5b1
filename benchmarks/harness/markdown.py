"""Tables as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.options import Options
from benchmarks.harness.registry import Table


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
