"""The command line: what it writes, prints and refuses."""

from __future__ import annotations

import functools
import json

import numpy
import pytest
import tifffile
import torch
from PIL import Image

from convexreg.cli.demo import run_demo
from convexreg.cli.text import card_text
from convexreg.pictures.files import Photograph, read_image, write_image
from tests.cli.command import run


@pytest.mark.parametrize("sigma", ["25/255", "0.098", "auto"])
def test_denoise(photo, tmp_path, capsys, sigma):
    assert run("denoise", photo, "-o", tmp_path / "out.png", "--sigma", sigma, "-q") == 0
    before, after = read_image(photo).pixels, read_image(tmp_path / "out.png").pixels
    assert after.shape == before.shape
    assert after.diff(dim=-1).abs().mean() < before.diff(dim=-1).abs().mean() / 2
    assert "certified relative gap" in capsys.readouterr().out


def test_json_is_machine_readable(photo, tmp_path, capsys):
    """Each accuracy reaches a gap of its own."""
    for accuracy, gap in (
        ([], 1e-3),
        (["--fast"], 1e-2),
        (["--exact"], 1e-4),
        (["--gap", ".1"], 0.1),
    ):
        options = ["-o", tmp_path / "o.png", "--sigma", "0.1", "--json", "-q", *accuracy]
        assert run("denoise", photo, *options) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["status"] == "converged"
        assert 0 < result["certified_relative_gap"] <= gap
        assert result["sigma"] == 0.1
    with pytest.raises(SystemExit):
        run("denoise", photo, "-o", tmp_path / "o.png", "--fast", "--exact")


def test_sixteen_bit_colour_with_alpha_survives(tmp_path):
    pixels, alpha = torch.rand(3, 40, 44), torch.rand(1, 40, 44)
    write_image(tmp_path / "in.tif", Photograph(pixels, alpha, 16))
    assert (
        run("denoise", tmp_path / "in.tif", "-o", tmp_path / "out.tif", "--sigma", ".1", "-q") == 0
    )
    result = read_image(tmp_path / "out.tif")
    assert result.bits == 16
    assert result.pixels.shape == (3, 40, 44)
    assert (result.alpha - alpha).abs().max() < 1e-4


@pytest.mark.parametrize("boundary", ["valid", "circular", "replicate", "reflect"])
def test_deblur(photo, tmp_path, capsys, boundary):
    kernel = numpy.outer([1.0, 2.0, 1.0], [1.0, 4.0, 1.0])
    numpy.save(tmp_path / "k.npy", kernel)
    code = run(
        "deblur", photo, "--kernel", tmp_path / "k.npy", "-o", tmp_path / "out.png", "--sigma", "0.1",
        "--boundary", boundary, "-q",
    )  # fmt: skip
    assert code == 0
    assert read_image(tmp_path / "out.png").pixels.shape == (1, 48, 40)
    assert "sums to 24; normalised to one" in capsys.readouterr().err


def test_shortfalls_and_clipping_are_noted_in_terms_of_options(photo, tmp_path, capsys):
    common = ("denoise", photo, "-o", tmp_path / "out.png", "--sigma", "0.1", "-m", "crr", "-q")
    assert run(*common, "--max-iter", 1) == 0
    assert "Raise --max-iter, or loosen --gap" in capsys.readouterr().err
    assert run(*common, "--gap", "1e-30") == 0
    assert "single precision, and the tolerance is not reached" in capsys.readouterr().err
    assert run(*common, "--white", 130) == 0
    assert "is above --white 130, where the result ends" in capsys.readouterr().err


@pytest.fixture
def small_demo(monkeypatch):
    """The demo on less of its photograph."""
    monkeypatch.setattr("convexreg.cli.demo.run_demo", functools.partial(run_demo, size=96))


@pytest.mark.usefixtures("small_demo")
def test_deblurring_takes_less_weight_than_denoising(photo, tmp_path, capsys):
    numpy.save(tmp_path / "k.npy", numpy.ones((3, 3)))
    common = ("-o", tmp_path / "out.png", "--max-iter", 1, "--json", "-q")
    blurred = ("deblur", photo, "--kernel", tmp_path / "k.npy", "--sigma", "0.1")
    demo = ("demo", "--max-iter", 1)
    found = []
    for command in (("denoise", photo), blurred, (*blurred, "--lam", "1"), demo):
        assert run(*command, *common) == 0
        report = json.loads(capsys.readouterr().out)
        found += [part["lam"] for part in (report if isinstance(report, list) else [report])]
    assert (found[0], found[2], found[3]) == (1, 1, 1)
    assert 0.1 < found[1] < 0.6
    assert 0.1 < found[4] < 0.3


@pytest.mark.usefixtures("small_demo")
def test_demo(tmp_path, capsys):
    assert run("demo", "-o", tmp_path / "demo.png", "--max-iter", 2, "-q") == 0
    out = capsys.readouterr().out
    assert "denoising" in out
    assert "deblurring" in out
    options = ("--max-iter", 2, "--gap", "1e-9", "--lam", "0.5", "--json", "-q")
    assert run("demo", "-o", tmp_path / "demo.png", *options) == 0
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.size[0] > 500
    problems = json.loads(capsys.readouterr().out)
    assert [problem["problem"].split(",")[0] for problem in problems] == ["denoising", "deblurring"]
    for problem in problems:
        assert problem["psnr_after"] > problem["psnr_before"]
        assert problem["psnr_simple"] > 20
        assert (problem["iterations"], problem["lam"]) == (2, 0.5)
        assert problem["status"] == "max_iterations"


def test_info_lists_the_shipped_models(capsys):
    assert run("info", "--json") == 0
    cards = json.loads(capsys.readouterr().out)
    assert {"mgradnet-m", "crr"} <= set(cards)


def test_a_card_is_text_without_the_punctuation_of_python():
    card = {
        "adaptive": True,
        "learning_rates": [1e-3, 2e-3],
        "stages": [{"steps": 2, "gap": 1 / 3}, {"steps": 3}],
        "commands": ["a b", "c d"],
        "validation_psnr": {"5": 37.42},
        "started_from": "random filters",
    }
    assert card_text(card) == (
        "  adaptive: yes\n  learning rates: 0.001 / 0.002\n  stages:\n    - steps 2, gap 0.333333\n"
        "    - steps 3\n  commands:\n    - a b\n    - c d\n  validation psnr: 5 37.42\n"
        "  started from: random filters"
    )


def _kernel(tmp_path, array) -> str:
    numpy.save(tmp_path / "k.npy", numpy.asarray(array, dtype=float))
    return str(tmp_path / "k.npy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sigma", "0"], "sigma must be positive"),
        (["--sigma", "-0.1"], "sigma must be positive"),
        (["--sigma", "25"], "divide by 255"),
        (["--gain", "-1"], "gain must be a positive number"),
        (["--gain", "auto", "--sigma", "0.1"], "give both of them or neither"),
        (["--sigma", "a/b"], "number such as"),
        (["--sigma", "1/0"], "number such as"),
        (["--sigma", ".1", "--model", "nothing"], "no shipped model"),
        (["--sigma", ".1", "--model", "./nothing.safetensors"], "no model file"),
        (["--sigma", ".1", "--lam", "-1"], "lam must be nonnegative"),
    ],
)
def test_refusals_of_denoise(photo, tmp_path, capsys, arguments, message):
    assert run("denoise", photo, "-o", tmp_path / "out.png", "-q", *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_a_solve_that_falls_short_warns(photo, tmp_path, capsys):
    target = tmp_path / "out.png"
    assert run("denoise", photo, "-o", target, "-q", "--sigma", ".1", "--max-iter", "1") == 0
    assert target.is_file()
    assert "warning: the iteration limit was reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ([[1.0, -1.0, 1.0]], "negative"),
        ([[0.0, 0.0, 0.0]], "sums to zero"),
        ([[float("nan")]], "NaN"),
        (numpy.arange(1, 76).reshape(5, 5, 3), "the kernel has 3 channels and the photograph 1"),
        (numpy.ones((51, 3)), "51 x 3, is larger than the photograph, 48 x 40"),
    ],
)
def test_refusals_of_kernels(photo, tmp_path, capsys, kernel, message):
    path = _kernel(tmp_path, kernel)
    code = run("deblur", photo, "--kernel", path, "-o", tmp_path / "o.png", "--sigma", ".1", "-q")
    assert code == 2
    assert message in capsys.readouterr().err


def test_refusals_of_files(photo, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:200])
    (tmp_path / "text.png").write_text("not an image")
    for source, target, message in (
        ("missing.png", "o.png", "there is no file"),
        ("broken.png", "o.png", "damaged"),
        ("text.png", "o.png", "damaged"),
        ("in.png", "nowhere/o.png", "does not exist"),
        ("in.png", "o.xyz", "suffix"),
        ("in.png", "in.png", "is an input and would be overwritten"),
    ):
        assert (
            run("denoise", tmp_path / source, "-o", tmp_path / target, "--sigma", ".1", "-q") == 2
        )
        assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("o.*"))


def test_white_of_the_file(tmp_path, capsys):
    """12 bits in 16: a note, and with `--white` the same result as on the full scale."""
    twelve = numpy.random.default_rng(0).integers(0, 4096, (40, 44)).astype(numpy.uint16)
    tifffile.imwrite(tmp_path / "in.tif", twelve)
    tifffile.imwrite(tmp_path / "float.tif", (twelve / 4095).astype(numpy.float32))
    out, reference = tmp_path / "out.tif", tmp_path / "reference.tif"
    assert run("denoise", tmp_path / "in.tif", "-o", out, "--sigma", "0.1", "-q") == 0
    assert "give --white 4095" in capsys.readouterr().err
    options = ("--sigma", "0.1", "-q")
    assert run("denoise", tmp_path / "in.tif", "-o", out, "--white", 4095, *options) == 0
    assert "--white" not in capsys.readouterr().err
    assert run("denoise", tmp_path / "float.tif", "-o", reference, *options) == 0
    result = tifffile.imread(out)
    assert result.dtype == numpy.uint16
    assert abs(result - 4095 * tifffile.imread(reference)).max() <= 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--gap", "0", "must be a positive number, got '0'"),
        ("--gap", "small", "must be a positive number, got 'small'"),
        ("--white", "inf", "must be a positive number, got 'inf'"),
        ("--max-iter", "0", "must be a whole number of at least 1, got '0'"),
        ("--max-iter", "1.5", "must be a whole number of at least 1, got '1.5'"),
        ("--device", "cuda:77", "cannot compute on 'cuda:77'"),
        ("--device", "sausage", "cannot compute on 'sausage'"),
    ],
)
def test_arguments_that_make_no_sense(photo, tmp_path, capsys, option, value, message):
    with pytest.raises(SystemExit) as exit_code:
        run("denoise", photo, "-o", tmp_path / "out.png", option, value)
    assert exit_code.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"convexreg: error: argument {option}: {message}")
    assert said.endswith("(see convexreg denoise --help)\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("lam", ["0.5", "discrepancy", "sure"])
def test_weights_by_number_and_by_rule(photo, tmp_path, capsys, lam):
    arguments = ("denoise", photo, "-o", tmp_path / "o.png", "--sigma", "25/255", "--json", "-q")
    assert run(*arguments, "--lam", lam) == 0
    weight = json.loads(capsys.readouterr().out)["lam"]
    assert weight == {"0.5": 0.5}.get(lam, weight)
    assert 1 / 64 <= weight <= 4
    assert run(*arguments, "--lam", "much") == 2
    assert '"discrepancy" or "sure", got "much"' in capsys.readouterr().err
