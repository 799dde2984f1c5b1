"""Every benchmark on tiny input: it runs, reports, repeats and is honest."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.harness import markdown
from benchmarks.harness.outcome import Outcome
from benchmarks.harness.records import read_rows
from benchmarks.harness.registry import benchmarks
from benchmarks.solvers.table import PEERS
from convexreg.pictures.files import Photograph, write_image

pytestmark = pytest.mark.timeout(900)  # one fixture runs every benchmark, on the smallest input

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
    assert all(len(table.rows) for table in entry.tables(results / name))
    assert entry.tables(results / name)
    assert entry.figures(results / name) or name in ("defaults", "leaderboard")


@pytest.mark.parametrize("family", ["denoising", "deblurring", "physics"])
def test_every_method_has_an_outcome_and_none_fails(results, family):
    rows = read_rows(results / family / "images.csv")
    assert {"TV", "wavelets", "cosines"} <= set(rows["method"])
    assert str(Outcome.FAILED) not in set(rows["outcome"])
    skipped = rows["outcome"] == str(Outcome.SKIPPED)
    assert rows["message"][skipped].notna().all()
    assert (rows["psnr"].isna() == skipped).all()


def test_solvers_respect_what_is_proven(results):
    rows = read_rows(results / "convergence" / "summary.csv")
    assert set(rows["method"]) == set(PEERS)
    assert str(Outcome.FAILED) not in set(rows["outcome"])
    assert set(rows["above_proven_curve"].dropna()) == {"0"}
    assert set(rows["certificate_below_gap"]) == {"0"}


def test_spectra_respect_what_is_proven(results):
    rows = read_rows(results / "learned" / "spectra.csv")
    columns = ["smallest", "largest", "bound", "asymmetry"]
    smallest, largest, bound, asymmetry = rows[columns].astype(float).to_numpy().T
    assert len(rows)
    assert (-1e-12 * largest < smallest).all()
    assert (smallest < largest).all()
    assert (largest <= bound).all()
    assert (asymmetry < 1e-12).all()


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
        files = (folder / name / "summary.csv" for folder in (results, tmp_path))
        tables = (read_rows(file)[[*keys]].fillna("") for file in files)
        first, again = (set(table.itertuples(index=False, name=None)) for table in tables)
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
    assert set(rows[column]) == set(parts)
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
    assert read_rows(tmp_path / "denoising/summary.csv").equals(before)
    assert main([*arguments, "measurements,TV"]) == 0
    after = read_rows(tmp_path / "denoising/summary.csv").set_index("method")
    assert set(after.index) == {"TV", "wavelets", "measurements"}
    assert after.loc["wavelets"].equals(before.set_index("method").loc["wavelets"])
    assert float(after.loc["measurements", "difference"])


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
    rows = read_rows(tmp_path / "out/denoising/images.csv").set_index("method")
    assert rows.loc["median", ["image", "outcome"]].tolist() == ["noise", "finished"]
    assert rows.loc["broken", "outcome"] == "failed"
    assert str(rows.loc["broken", "message"]).startswith("returned an image of shape")
    for name in ("run.json", "protocol.json"):
        assert str(tmp_path) not in (tmp_path / "out/denoising" / name).read_text()
    summary = read_rows(tmp_path / "out/denoising/summary.csv").set_index("method").fillna("")
    assert summary.loc["broken", ["psnr", "outcomes"]].tolist() == ["", "failed 1"]


def test_tables_are_those_of_the_committed_results():
    assert main(["table", "--check"]) == 0, "run `python -m benchmarks table`"


def test_tables_go_between_the_markers(results, tmp_path):
    paths = [tmp_path / "results.md", tmp_path / "behaviour.md"]
    for path in paths:
        path.write_text(f"before\n{markdown.BEGIN}\nold\n{markdown.END}\nafter\n")
    files = ["--headlines", str(paths[0]), "--behaviour", str(paths[1])]
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
