"""The benchmark harness on tiny input: every benchmark runs, reports, repeats and is honest."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.harness import readme
from benchmarks.harness.outcome import Outcome
from benchmarks.solvers.recorder import CountedObjective, Recorder, Stop
from benchmarks.harness.records import read_rows
from benchmarks.harness.registry import Benchmark, benchmark, benchmarks, register
from benchmarks.solvers.tasks import Task, reference
from benchmarks.problems.table import PROBLEMS
from benchmarks.solvers.convexreg_solvers import own
from benchmarks.solvers.table import PEERS
from convexreg.pictures.files import Photograph, write_image
from convexreg.solvers import (
    FISTA,
    Backtracking,
    Box,
    FreeFISTA,
    GradientDescent,
    QuasiNewton,
    minimise,
)

OWN = [
    name
    for name, entry in benchmarks().items()
    if not type(entry).__module__.startswith("benchmarks.papers")
]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Every benchmark, once, on the smallest input."""
    folder = tmp_path_factory.mktemp("results")
    assert main(["run", *OWN, "--tiny", "--repeats", "2", "--results", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("name", OWN)
def test_every_run_is_stamped_and_counted(results, name):
    (stamp,) = json.loads((results / name / "run.json").read_text())["runs"]
    assert stamp["options"]["tiny"] is True
    assert {"cpu", "threads", "versions", "commit", "date"} <= stamp["environment"].keys()
    entry = benchmarks()[name]
    assert entry.tables(results / name)
    assert entry.figures(results / name)


@pytest.mark.parametrize("family", ["denoising", "deblurring", "physics"])
def test_every_method_has_an_outcome_and_none_fails(results, family):
    rows = read_rows(results / family / "images.csv")
    outcomes = {row["method"]: row["outcome"] for row in rows}
    assert {"TV", "wavelets", "cosines"} <= outcomes.keys()
    assert str(Outcome.FAILED) not in outcomes.values()
    assert all(row["message"] for row in rows if row["outcome"] == str(Outcome.SKIPPED))
    assert all((row["psnr"] != "") != (row["outcome"] == "skipped") for row in rows)


def test_solvers_respect_what_is_proven(results):
    rows = read_rows(results / "convergence" / "summary.csv")
    assert {row["method"] for row in rows} == set(PEERS)
    assert all(row["outcome"] != str(Outcome.FAILED) for row in rows)
    assert all(row["above_proven_curve"] in ("", "0") for row in rows)
    assert all(row["certificate_below_gap"] == "0" for row in rows)


def test_spectra_respect_what_is_proven(results):
    rows = read_rows(results / "learned" / "spectra.csv")
    assert rows
    for row in rows:
        smallest, largest, bound = (float(row[key]) for key in ("smallest", "largest", "bound"))
        assert -1e-12 * largest < smallest < largest <= bound
        assert float(row["asymmetry"]) < 1e-12


@pytest.fixture(scope="module")
def report(results, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    assert main(["report", "--results", str(results), "--out", str(folder)]) == 0
    return folder


def test_report_is_one_page_without_a_network(report):
    page = (report / "index.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert page.count("data:image/svg+xml;base64,") == len(list(report.glob("*.svg")))
    assert 'name="viewport"' in page
    assert "smallest input, only to see that it runs" in page
    assert (report / "report.md").read_text().startswith("# Benchmarks")


def test_report_from_the_same_files_is_the_same(results, report, tmp_path):
    main(["report", "--results", str(results), "--out", str(tmp_path)])
    first, again = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (report, tmp_path)
    )
    assert first == again


def test_running_again_gives_the_same_numbers(results, tmp_path):
    arguments = ["--tiny", "--repeats", "1", "--results", str(tmp_path)]
    main(["run", "convergence", *arguments, "--methods", "quasi-Newton,nmAPG,L-BFGS (torch)"])
    main(["run", "denoising", *arguments, "--methods", "TV,cosines"])
    for name, keys in {
        "convergence": ("task", "method", "tolerance", "evaluations", "certified_evaluations"),
        "denoising": ("problem", "method", "psnr", "evaluations", "weight"),
    }.items():
        first = {tuple(row[k] for k in keys) for row in read_rows(results / name / "summary.csv")}
        again = {tuple(row[k] for k in keys) for row in read_rows(tmp_path / name / "summary.csv")}
        assert again
        assert again <= first


@pytest.mark.parametrize(
    ("name", "file", "option", "column", "parts", "other"),
    [
        ("denoising", "summary", "--methods", "method", ("wavelets", "measurements"), "--crop=24"),
        ("study", "scores", "--problems", "objective", ("score", "unrolled"), "--seed=1"),
    ],
)
def test_runs_add_up_under_one_protocol_only(
    name, file, option, column, parts, other, tmp_path, capsys
):
    arguments = ["run", name, "--tiny", "--results", str(tmp_path)]
    for part in parts:
        assert main([*arguments, option, part]) == 0
    rows = read_rows(tmp_path / name / f"{file}.csv")
    assert {row[column] for row in rows} == set(parts)
    assert len(json.loads((tmp_path / name / "run.json").read_text())["runs"]) == 2
    assert main([*arguments, other]) == 2
    key, value = other.removeprefix("--").split("=")
    assert re.search(
        rf"another protocol \({key} \d+ instead of {value}[),]", capsys.readouterr().err
    )


def test_a_summary_without_its_images_is_added_to_along_with_the_baseline(tmp_path, capsys):
    arguments = ["run", "denoising", "--tiny", "--results", str(tmp_path), "--methods"]
    assert main([*arguments, "TV,wavelets"]) == 0
    before = read_rows(tmp_path / "denoising/summary.csv")
    (tmp_path / "denoising/images.csv").unlink()
    assert main([*arguments, "measurements"]) == 2
    assert "not the scores of TV behind it: add that to --methods" in capsys.readouterr().err
    assert read_rows(tmp_path / "denoising/summary.csv") == before
    assert main([*arguments, "measurements,TV"]) == 0
    after = {row["method"]: row for row in read_rows(tmp_path / "denoising/summary.csv")}
    assert after.keys() == {"TV", "wavelets", "measurements"}
    assert after["wavelets"] == next(row for row in before if row["method"] == "wavelets")
    assert after["measurements"]["difference"]


def test_a_study_with_missing_cells_can_be_reported(tmp_path):
    results = ["--results", str(tmp_path)]
    for architecture, objective in (("crr", "score"), ("ridges", "unrolled")):
        cell = ["--methods", architecture, "--problems", objective]
        assert main(["run", "study", "--tiny", *results, *cell]) == 0
    assert main(["report", *results, "--out", str(tmp_path / "report")]) == 0
    (table,) = benchmark("study").headline(tmp_path / "study")
    by_name = {row["architecture"]: row for row in table.rows}
    assert by_name["crr"]["unrolled"] == by_name["ridges"]["score"] == "-"
    assert float(by_name["ridges"]["unrolled"]) > 0


def test_an_interrupted_run_that_adds_up_is_on_record(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    arguments = ["run", "denoising", "--tiny", "--results", str(tmp_path), "--methods"]
    assert main([*arguments, "measurements"]) == 0
    monkeypatch.setattr("benchmarks.methods.benchmark._measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main([*arguments, "TV"])
    first, second = json.loads((tmp_path / "denoising/run.json").read_text())["runs"]
    assert "interrupted" not in first
    assert second["interrupted"]
    assert second["options"]["methods"] == ["TV"]


def test_a_study_that_could_not_begin_leaves_nothing_behind(tmp_path, capsys):
    command = ["run", "study", "--tiny", "--results", str(tmp_path), "--problems", "score"]
    for mistake, message in (
        ("--images=/nowhere", "neither a folder of images nor a dataset"),
        ("--models=/nowhere.safetensors", "no model file"),
        ("--models=mgradnet-m-adaptive", "is not a ridge model of 64 channels"),
        ("--models=mgradnet-m", "is not a ridge model of 64 channels"),
    ):
        assert main([*command, mistake]) == 2
        assert message in capsys.readouterr().err
    assert main([*command, "--images", "photographs", "--models", "crr"]) == 0


def test_a_run_that_replaces_the_results_replaces_the_record(tmp_path):
    for _ in range(2):
        assert main(["run", "cost", "--tiny", "--results", str(tmp_path)]) == 0
    assert len(json.loads((tmp_path / "cost" / "run.json").read_text())["runs"]) == 1


def test_own_method_on_own_folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    image = torch.rand((1, 40, 32), generator=torch.Generator().manual_seed(0))
    write_image(folder / "noise.png", Photograph(image, None, 8))
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from scipy.ndimage import median_filter\n"
        "from benchmarks.methods.table import METHODS, Method\n"
        "def median(measurement, weight):\n"
        "    return torch.from_numpy(median_filter(measurement.y.numpy(), (1, 1, 3, 3)))\n"
        "def broken(measurement, weight):\n"
        "    return measurement.y[..., 1:]\n"
        'METHODS["median"] = Method("3 x 3 median", median, families=("denoising",))\n'
        'METHODS["broken"] = Method("wrong shape", broken, families=("denoising",))\n'
    )
    arguments = ["run", "denoising", "--tiny", "--results", str(tmp_path / "out")]
    arguments += ["--load", str(tmp_path / "mine.py"), "--methods", "median,broken"]
    try:
        assert main([*arguments, "--images", str(folder)]) == 0
    finally:
        from benchmarks.methods.table import METHODS

        METHODS.pop("median", None)
        METHODS.pop("broken", None)
    rows = {row["method"]: row for row in read_rows(tmp_path / "out/denoising/images.csv")}
    assert rows["median"]["image"] == "noise"
    assert rows["median"]["outcome"] == "finished"
    assert rows["broken"]["outcome"] == "failed"
    assert rows["broken"]["message"].startswith("returned an image of shape")
    for name in ("run.json", "protocol.json"):
        assert str(tmp_path) not in (tmp_path / "out/denoising" / name).read_text()
    summary = {row["method"]: row for row in read_rows(tmp_path / "out/denoising/summary.csv")}
    assert summary["broken"]["psnr"] == ""
    assert summary["broken"]["outcomes"] == "failed 1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "there is no benchmark 'nothing'"),
        (["run", "denoising", "--images", "/nowhere"], "neither a folder"),
        (["run", "denoising", "--methods", "TV,magic"], "there is no method 'magic'"),
        (["run", "deblurring", "--methods", "BM3D"], "there is no method 'BM3D' for deblurring"),
        (["run", "denoising", "--problems", "mri"], "there is no problem 'mri' of denoising"),
        (["run", "convergence", "--tiny", "--methods", "magic"], "there is no solver 'magic'"),
        (["run", "convergence", "--tiny", "--problems", "magic"], "there is no problem 'magic'"),
        (["run", "adaptive", "--tiny", "--problems", "magic"], "there is no problem 'magic'"),
        (["run", "learned", "--methods", "magic"], "there is no model 'magic'"),
        (["run", "deepinv", "--tiny", "--methods", "magic"], "there is no algorithm 'magic'"),
        (["run", "deepinv", "--tiny", "--problems", "magic"], "there is no part 'magic'"),
        (["run", "score", "--methods", "magic"], "there is no method 'magic'"),
        (["run", "adaptive", "--methods", "TV"], "adaptive cannot be restricted to methods"),
        (
            ["run", "denoising", "cost", "--problems", "mri"],
            "cost cannot be restricted to problems",
        ),
        (["run", "cost", "--load", "/nowhere.py"], "there is no Python file"),
        (["report", "--results", "/nowhere"], "there are no results"),
    ],
)
def test_mistakes_get_one_clear_sentence(arguments, message, tmp_path, capsys):
    if arguments[0] == "run":
        arguments = [*arguments, "--results", str(tmp_path)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "argument --threads: must be a whole number of at least 1"),
        (["--limit", "two"], "argument --limit: must be a whole number of at least 1"),
        (["--time-limit", "nan"], "argument --time-limit: must be a positive number"),
        (["--device", "sausage"], "argument --device: cannot compute on 'sausage'"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_code:
        main(["run", "cost", *arguments])
    assert exit_code.value.code == 2
    assert message in capsys.readouterr().err


def test_listing_names_everything(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in benchmarks())


def test_two_benchmarks_cannot_share_a_name():
    class Second(Benchmark):
        name = "cost"
        description = "again"

        def run(self, options, folder):
            raise NotImplementedError

    with pytest.raises(ValueError, match="already is a benchmark"):
        register(Second)


@pytest.fixture(scope="module")
def task() -> Task:
    from benchmarks.methods.models import cosines

    image = torch.rand((1, 20, 17), generator=torch.Generator().manual_seed(1))
    return Task("noise-25 random", PROBLEMS["noise-25"].measure(image, 0), cosines())


def test_reference_is_certified_and_cached(task, tmp_path):
    first = reference(task, tmp_path)
    assert 0 <= first.gap <= 1e-12 * first.value
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    again = reference(task, tmp_path)
    assert torch.equal(first.x, again.x)
    assert first.value == again.value
    assert path.stat().st_mtime_ns == written


@pytest.mark.parametrize("name", PEERS)
def test_every_solver_reaches_the_minimum(task, name, tmp_path):
    record = Recorder(
        task, reference(task, tmp_path), target=1e-5, max_evaluations=1500, time_limit=60
    )
    with torch.no_grad(), pytest.raises(Stop) as stop:
        PEERS[name].run(task, record)
    assert stop.value.outcome is Outcome.CONVERGED
    assert record.points[-1].evaluations == record.objective.evaluations


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.box])
def test_every_constrained_solver_reaches_the_minimum(task, name, tmp_path):
    boxed = Task("box", task.measurement, task.regularizer, Box(0.3, 0.6))
    record = Recorder(
        boxed, reference(boxed, tmp_path), target=1e-5, max_evaluations=1500, time_limit=60
    )
    with torch.no_grad(), pytest.raises(Stop) as stop:
        PEERS[name].run(boxed, record)
    assert stop.value.outcome is Outcome.CONVERGED


@pytest.mark.parametrize(
    "solver",
    [GradientDescent(), FISTA(), FISTA(Backtracking()), FreeFISTA(), QuasiNewton()],
    ids=repr,
)
def test_counters_agree_with_what_solvers_claim(task, solver):
    counted = CountedObjective(task.objective)
    solution = minimise(counted, task.start, solver, gap_tol=1e-4, max_iter=300)
    assert counted.evaluations == float(solution.evaluations)


def test_time_limit_and_failure_are_outcomes(task, tmp_path):
    exact = reference(task, tmp_path)
    record = Recorder(task, exact, target=1e-12, max_evaluations=1e9, time_limit=0.0)
    with pytest.raises(Stop) as stop:
        own(GradientDescent())(task, record)
    assert stop.value.outcome is Outcome.TIME_LIMIT
    record = Recorder(task, exact, target=1e-12, max_evaluations=1e9, time_limit=60)
    with pytest.raises(Stop) as stop:
        record(task.start * float("nan"))
    assert stop.value.outcome is Outcome.FAILED


def test_tables_are_those_of_the_committed_results():
    assert main(["table", "--check"]) == 0, "run `python -m benchmarks table`"


def test_tables_go_between_the_markers(results, tmp_path):
    paths = [tmp_path / "README.md", tmp_path / "results.md"]
    for path in paths:
        path.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    files = ["--readme", str(paths[0]), "--details", str(paths[1])]
    arguments = ["table", *files, "--results", str(results)]
    assert main([*arguments, "--check"]) == 2
    assert main(arguments) == 0
    for path, shown, elsewhere in zip(
        paths, ("**Denoising**", "**Physics**"), ("**Physics**", "**Denoising**"), strict=True
    ):
        text = path.read_text()
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "| TV |" in text
        assert "old" not in text
        assert shown in text
        assert elsewhere not in text
    assert main([*arguments, "--check"]) == 0
    for path in reversed(paths):
        path.write_text("no markers")
        assert main([*arguments, "--check"]) == 2
        assert main(arguments) == 2
