"""Command line: `python -m benchmarks list | run NAME ... | report | table`."""

from __future__ import annotations

import argparse
import runpy
import sys
import time
from pathlib import Path

import torch

from benchmarks.harness.environment import environment
from benchmarks.harness.markdown import (
    BEHAVIOUR,
    COMMITTED,
    HEADLINES,
    RESULTS,
    behaviour,
    with_tables,
)
from benchmarks.harness.options import Options
from benchmarks.harness.records import read_json, write_json
from benchmarks.harness.registry import benchmark, benchmarks
from benchmarks.harness.report import write_report
from convexreg.cli.parser import count, keep_freed_memory
from convexreg.files import write_atomically

_RESULTS = Path("runs/benchmarks")
_SHOWN = "default: %(default)s"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ValueError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser("list", help="what there is to run")
    listing.set_defaults(command=_list)
    run = commands.add_parser("run", help="run benchmarks and save their results")
    run.set_defaults(command=_run)
    run.add_argument("names", nargs="+", metavar="NAME", help="see `list`")
    folder = {"type": Path, "metavar": "FOLDER"}
    run.add_argument("--results", default=_RESULTS, help=f"to save to, {_SHOWN}", **folder)
    run.add_argument(
        "--load", type=Path, action="append", default=[], metavar="FILE.py", help="your own rows"
    )
    run.add_argument("--threads", type=count, help="of PyTorch")
    Options.add_to(run)
    report = commands.add_parser("report", help="draw tables and figures from saved results")
    report.set_defaults(command=_report)
    report.add_argument("--results", default=_RESULTS, help=f"to read, {_SHOWN}", **folder)
    report.add_argument("--out", default=Path("report"), help=f"to write to, {_SHOWN}", **folder)
    table = commands.add_parser(
        "table", help="replace the documents' tables by those of the committed results"
    )
    table.set_defaults(command=_table)
    table.add_argument("--results", default=COMMITTED, help=f"to read, {_SHOWN}", **folder)
    table.add_argument(
        "--headlines", type=Path, default=RESULTS, metavar="FILE", help=f"how good, {_SHOWN}"
    )
    table.add_argument(
        "--behaviour", type=Path, default=BEHAVIOUR, metavar="FILE", help=f"the rest, {_SHOWN}"
    )
    table.add_argument("--check", action="store_true", help="only say whether they agree")
    return parser


def _list(_: argparse.Namespace) -> int:
    for name, entry in benchmarks().items():
        print(f"{name:16} {entry.description}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    keep_freed_memory()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    for path in arguments.load:
        _load(path)
    options = Options.of(arguments)
    entries = {name: benchmark(name) for name in arguments.names}
    for entry in entries.values():
        entry.check(options)
    for name, entry in entries.items():
        folder = arguments.results / name
        folder.mkdir(parents=True, exist_ok=True)
        # of the code that runs, which is what was there when it started
        surroundings = environment(options.device)
        stamp = {"benchmark": name, "options": options.record(), "environment": surroundings}
        runs = read_json(folder / "run.json").get("runs", []) if entry.adds_up else []
        started = time.perf_counter()
        try:
            entry.run(options, folder)
        except KeyboardInterrupt:
            # what was finished of results that add up stays
            if entry.adds_up:
                write_json(folder / "run.json", {"runs": [*runs, {**stamp, "interrupted": True}]})
            raise
        seconds = round(time.perf_counter() - started, 2)
        write_json(folder / "run.json", {"runs": [*runs, {**stamp, "seconds": seconds}]})
        print(f"{name}: {seconds:.0f} s, results in {folder}")
    print(f"python -m benchmarks report --results {arguments.results}   # tables and figures")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    print(f"wrote {write_report(arguments.results, arguments.out)}")
    return 0


def _table(arguments: argparse.Namespace) -> int:
    for path, names in ((arguments.headlines, HEADLINES), (arguments.behaviour, behaviour())):
        text = path.read_text(encoding="utf-8")
        expected = with_tables(text, arguments.results, names)
        if not arguments.check:
            write_atomically(path, expected.encode())
            print(f"wrote {path}")
        elif text != expected:
            raise ValueError(
                f"the tables of {path} differ from {arguments.results}; run `python -m benchmarks table`"
            )
    return 0


def _load(path: Path) -> None:
    """Run a user's file, which registers methods, datasets, problems or benchmarks."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no Python file {path} to load")
    runpy.run_path(str(path))


if __name__ == "__main__":
    sys.exit(main())
