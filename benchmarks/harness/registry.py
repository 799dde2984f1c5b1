"""What a benchmark is, and the table of all of them.

A new benchmark is a subclass with a `name` and a `description`, put into the table by `@register`:

    @register
    class Drift(Benchmark):
        name = "drift"
        description = "How far the answer moves when the input does"

        def run(self, options, folder):
            write_rows(folder / "drift.csv", [{"method": "ours", "status": "converged", "drift": 0.1}])

        def tables(self, folder):
            return [Table("Drift", read_rows(folder / "drift.csv"))]

`run` computes and writes files; `tables` and `figures` only read them, so a report can be drawn again
anywhere. The command line stamps the environment and the options into `run.json` beside the files.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

# Every module here registers its benchmarks when it is imported; add yours.
_MODULES = (
    "benchmarks.adaptivity",
    "benchmarks.certificates",
    "benchmarks.solvers.benchmark",
    "benchmarks.cost",
    "benchmarks.defaults",
    "benchmarks.large_images",
    "benchmarks.learned",
    "benchmarks.plugin.benchmark",
    "benchmarks.methods.benchmark",
    "benchmarks.study",
    "benchmarks.papers.gradient_fields",
    "benchmarks.papers.polymax",
    "benchmarks.papers.approximation",
    "benchmarks.papers.coupling",
    "benchmarks.papers.colour",
    "benchmarks.papers.score",
)


@dataclass(frozen=True)
class Options:
    """How to run; a benchmark ignores what does not concern it, except `methods` and `problems`.

    :ivar images: a dataset's name or a folder of images; each benchmark has its own default.
    :ivar tuning_images: where weights are tuned; never the test images.
    :ivar limit, tuning_limit: use only the first so many images.
    :ivar crop: use only the central square of so many pixels a side.
    :ivar tuning_crop: the same for tuning images, where it only saves time.
    :ivar methods, problems: only these; empty for all.
    :ivar models: further model files to compare.
    :ivar weights: folder of published weights (`crr_*.safetensors`).
    :ivar repeats: timed repetitions of every method.
    :ivar time_limit: seconds one method may take on one image; then its outcome is `time limit`.
    :ivar seed: of everything random but the measurement noise, which follows the image's number.
    :ivar tiny: the smallest input that exercises every line, for tests.
    """

    images: str | None = None
    tuning_images: str | None = None
    limit: int | None = None
    tuning_limit: int | None = None
    crop: int | None = None
    tuning_crop: int = 128
    methods: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    weights: str | None = None
    repeats: int = 3
    time_limit: float = 600.0
    seed: int = 0
    device: str = "cpu"
    tiny: bool = False

    def record(self) -> dict[str, object]:
        """For `run.json`: folders and files by their names, for where they lie is nobody's business."""

        def name(path: str | None) -> str | None:
            return None if path is None else Path(path).name

        return {
            **asdict(self),
            "images": name(self.images),
            "tuning_images": name(self.tuning_images),
            "models": [name(path) for path in self.models],
            "weights": name(self.weights),
        }


@dataclass(frozen=True)
class Table:
    """Rows for the report; columns in the order of the first row's keys, numbers already formatted."""

    title: str
    rows: Sequence[Mapping[str, object]]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A matplotlib figure for the report; `name` is its file name, `caption` says what it shows."""

    name: str
    caption: str
    canvas: Canvas


class Benchmark(ABC):
    """One experiment: computes into a folder, and reports from that folder alone.

    :cvar adds_up: whether a run can add to the results of earlier ones instead of replacing them all.
    :cvar restricted_by: which of `methods` and `problems` it can be restricted by.
    """

    name: ClassVar[str]
    description: ClassVar[str]
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

    def tables(self, folder: Path) -> list[Table]:
        """Tables from the saved files."""
        return []

    def headline(self, folder: Path) -> list[Table]:
        """The few tables worth a place in the README."""
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
    return dict(_BENCHMARKS)


def benchmark(name: str) -> Benchmark:
    """The benchmark of that name.

    :raises ValueError: there is none.
    """
    known = benchmarks()
    if name not in known:
        raise ValueError(f"there is no benchmark {name!r}; there are {', '.join(sorted(known))}")
    return known[name]
