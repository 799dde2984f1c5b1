"""What a benchmark is, and the table of all of them.

A new benchmark is a subclass with a `name` and a `description`, put into the table by `@register`.
`run` computes and writes files; `tables` and `figures` only read them, so a report can be drawn again
anywhere. The command line stamps the environment and the options into `run.json` beside the files.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from pandas import DataFrame

from benchmarks.harness.options import Options
from benchmarks.harness.records import read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

# Every module here registers its benchmarks when it is imported; add yours.
_MODULES = (
    "benchmarks.adaptivity",
    "benchmarks.certificates",
    "benchmarks.solvers.benchmark",
    "benchmarks.cost",
    "benchmarks.defaults",
    "benchmarks.endurance",
    "benchmarks.front",
    "benchmarks.large_images",
    "benchmarks.learned",
    "benchmarks.noise_levels",
    "benchmarks.plugin.benchmark",
    "benchmarks.plugin.leaderboard",
    "benchmarks.methods.benchmark",
    "benchmarks.study",
    "benchmarks.times",
    "benchmarks.papers.gradient_fields",
    "benchmarks.papers.polymax",
    "benchmarks.papers.approximation",
    "benchmarks.papers.coupling",
    "benchmarks.papers.colour",
    "benchmarks.papers.score",
)


@dataclass(frozen=True)
class Table:
    """Rows for the report, numbers already formatted."""

    title: str
    rows: DataFrame
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A matplotlib figure for the report; `name` is its file name, `caption` says what it shows."""

    name: str
    caption: str
    canvas: Canvas


class Benchmark(ABC):
    """One experiment: computes into a folder, and reports from that folder alone.

    :cvar file: what tables and figures are of; without it there is nothing to report.
    :cvar numbers: the columns of this file that are numbers.
    :cvar adds_up: whether a run can add to the results of earlier ones instead of replacing them all.
    :cvar restricted_by: which of `methods` and `problems` it can be restricted by.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    file: ClassVar[str] = "run.json"
    numbers: ClassVar[Sequence[str]] = ()
    adds_up: ClassVar[bool] = True
    restricted_by: ClassVar[tuple[str, ...]] = ("methods", "problems")

    def check(self, options: Options) -> None:
        """Whether the benchmark can be run on a part of it that is asked for.

        :raises ValueError: it has no such parts.
        """
        for option in ("methods", "problems"):
            if getattr(options, option) and option not in self.restricted_by:
                raise ValueError(
                    f"{self.name} cannot be restricted to {option}; run it without them"
                )

    @abstractmethod
    def run(self, options: Options, folder: Path) -> None:
        """Compute, and write CSV and JSON files into the existing `folder`."""

    def rows(self, folder: Path) -> DataFrame:
        """The rows of `file`, text but for the numbers."""
        return read_rows(folder / self.file).astype(dict.fromkeys(self.numbers, float))

    def tables(self, folder: Path) -> list[Table]:
        """Tables from the saved files."""
        return []

    def headline(self, folder: Path) -> list[Table]:
        """The few tables worth a place in the documentation."""
        return []

    def figures(self, folder: Path) -> list[Figure]:
        """Figures from the saved files."""
        return []


_BENCHMARKS: dict[str, Benchmark] = {}
B = TypeVar("B", bound=Benchmark)
K = TypeVar("K", bound=str)
T = TypeVar("T")


def selected(table: Mapping[K, T], names: Sequence[str], kind: str, where: str = "") -> dict[K, T]:
    """The rows asked for in the table's order, all when none is.

    :param kind, where: what the rows are, for the error.
    :raises ValueError: one that does not exist.
    """
    for name in names:
        if name not in table:
            raise ValueError(f"there is no {kind} {name!r}{where}; there are {', '.join(table)}")
    return {name: row for name, row in table.items() if not names or name in names}


def register(benchmark: type[B]) -> type[B]:
    """Put a benchmark into the table; a second one of the same name is an error."""
    if benchmark.name in _BENCHMARKS:
        raise ValueError(f"there already is a benchmark {benchmark.name!r}; choose another name")
    _BENCHMARKS[benchmark.name] = benchmark()
    return benchmark


def benchmarks() -> dict[str, Benchmark]:
    """All benchmarks by name."""
    for module in _MODULES:
        importlib.import_module(module)
    return dict(sorted(_BENCHMARKS.items()))


def with_results(results: Path) -> list[Benchmark]:
    """Those that have something to report in a folder of results."""
    return [b for b in benchmarks().values() if (results / b.name / b.file).is_file()]


def benchmark(name: str) -> Benchmark:
    """The benchmark of that name.

    :raises ValueError: there is none.
    """
    return selected(benchmarks(), [name], "benchmark")[name]
