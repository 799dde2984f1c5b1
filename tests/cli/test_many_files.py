"""Many files and stacks on the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy
import pytest
import tifffile
from PIL import Image

from convexreg.cli import batch
from tests.cli.command import run

FAST = ("--sigma", "0.05", "--fast", "-m", "mgradnet-m", "-q")


def _noisy(*shape: int, seed: int = 0) -> numpy.ndarray:
    ramp = numpy.linspace(0.2, 0.8, shape[-1])
    noise = 0.05 * numpy.random.default_rng(seed).standard_normal(shape)
    return numpy.round((ramp + noise).clip(0, 1) * 255).astype(numpy.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs and something else."""
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("a.png", "b.tif", "c.bmp")):
        Image.fromarray(_noisy(16, 18, seed=number)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("none")
    return tmp_path / "in"


def test_a_folder(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("denoise", folder, "-o", out, *FAST) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.tif", "c.png"]
    said = capsys.readouterr().out
    assert f"{out / 'a.png'}: sigma 0.05, certified relative gap" in said
    assert "3 written to" in said
    # alone it becomes the same
    assert run("denoise", folder / "a.png", "-o", tmp_path / "alone.png", *FAST) == 0
    assert (tmp_path / "alone.png").read_bytes() == (out / "a.png").read_bytes()


def test_what_is_done_is_skipped_and_failures_stop_nothing(folder, tmp_path, capsys):
    out = tmp_path / "out"
    (folder / "aa.png").write_bytes(b"not a picture")
    assert run("denoise", folder, "-o", out, *FAST) == 1
    said = capsys.readouterr()
    assert f"error: {folder / 'aa.png'} cannot be read" in said.err
    assert "3 written" in said.out
    assert "1 failed" in said.out
    Image.fromarray(_noisy(16, 18)).save(folder / "aa.png")
    os.utime(folder / "b.tif", (2e9, 2e9))  # changed since
    assert run("denoise", folder, "-o", out, *FAST, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["output"]).name for line in lines] == ["aa.png", "b.tif"]
    assert lines[0]["pages"][0]["sigma"] == 0.05
    assert run("denoise", folder / "a.png", folder / "c.bmp", "-o", out, *FAST) == 0
    assert "0 written to" in capsys.readouterr().out
    assert run("denoise", folder / "a.png", "-o", out, *FAST, "--overwrite") == 0
    assert "1 written to" in capsys.readouterr().out


def test_patterns_and_names(folder, tmp_path):
    assert batch.found([str(folder / "*.png"), str(folder / "b.tif"), str(folder)]) == [
        folder / name for name in ("a.png", "b.tif", "c.bmp")
    ]
    out = tmp_path / "out"
    assert run("denoise", folder / "[ab].*", "-o", out, *FAST) == 0
    assert len(list(out.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("in", "-o", "in"), "is an input and would be overwritten"),
        (("in/a.png", "-o", "in/a.png"), "is an input and would be overwritten"),
        (("in/*.gif", "-o", "out"), "there are no images in in"),
        (("empty", "-o", "out"), "there are no images in empty"),
        (("in", "-o", "out.png"), "several results need a folder, and out.png is a file"),
        (("in/a.png", "more/a.png", "-o", "out"), "would both be written to out"),
        (("in", "-o", "out", "--lam", "much"), '"discrepancy" or "sure", got "much"'),
        (("in", "-o", "out", "-m", "nothing"), "no shipped model"),
    ],
)
def test_refusals(folder, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "more"):
        (tmp_path / name).mkdir()
    Image.fromarray(_noisy(16, 18)).save("more/a.png")
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    assert run("denoise", *arguments, "--sigma", ".05", "-q") == 2
    assert message in capsys.readouterr().err
    assert kept == {path: path.read_bytes() for path in folder.iterdir()}
    assert not list(tmp_path.glob("out*"))


def test_a_kernel_is_not_overwritten_either(folder, tmp_path, capsys):
    numpy.save(tmp_path / "k.npy", numpy.ones((3, 3)))
    blurred = ("deblur", folder / "a.png", "--kernel", tmp_path / "k.npy", "-q", "--sigma", ".05")
    assert run(*blurred, "-o", tmp_path / "k.npy") == 2
    assert "is an input" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".npz"])
def test_stacks_slice_by_slice(tmp_path, capsys, suffix):
    stack = numpy.stack([_noisy(16, 18, seed=i) for i in range(2)])
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(source, stack, imagej=True, metadata={"axes": "CYX", "unit": "um"})
    elif suffix == ".npy":
        numpy.save(source, stack)
    else:
        numpy.savez(source, dyes=stack)
    assert run("denoise", source, "-o", target, *FAST) == 0
    said = capsys.readouterr()
    assert "has 2 pictures" in said.err
    assert "page 2: sigma: 0.05" in said.out
    result = tifffile.imread(target) if suffix == ".tif" else numpy.load(target)
    result = result["dyes"] if suffix == ".npz" else result
    scale = 255 if suffix == ".tif" else 1
    assert result.shape == stack.shape
    for page, noisy in zip(result, stack, strict=True):  # no channel comes back as noisy as it was
        ramp = numpy.linspace(0.2, 0.8, 18)
        assert numpy.std(page / scale - ramp) < 0.5 * numpy.std(noisy / 255 - ramp)
    assert run("denoise", source, "-o", tmp_path / "one.png", "--page", 2, *FAST) == 0
    with Image.open(tmp_path / "one.png") as one:
        assert abs(numpy.asarray(one) / 255 - result[1] / scale).max() < 1 / 255
    assert run("denoise", source, "-o", tmp_path / "all.png", *FAST) == 2
    assert "holds one picture, and there are 2" in capsys.readouterr().err
    assert run("denoise", source, "-o", target, "--page", 3, *FAST) == 2
    assert "there is no page 3" in capsys.readouterr().err


def test_bands_and_gray_stored_as_colour(tmp_path, capsys):
    """Every band is denoised; three equal channels give what one gives."""
    gray = _noisy(16, 18)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(numpy.dstack([gray] * 3)).save(tmp_path / "colour.png")
    for name in ("gray", "colour"):
        assert run("denoise", tmp_path / f"{name}.png", "-o", tmp_path / f"{name}.tif", *FAST) == 0
    results = [tifffile.imread(tmp_path / f"{name}.tif") for name in ("gray", "colour")]
    numpy.testing.assert_array_equal(numpy.dstack([results[0]] * 3), results[1])
    flat = numpy.full_like(gray, 77)
    bands = numpy.dstack([gray, gray[::-1], _noisy(16, 18, seed=2), flat])
    extra = ["unspecified"]
    tifffile.imwrite(tmp_path / "b.tif", bands, photometric="rgb", extrasamples=extra)
    capsys.readouterr()
    assert run("denoise", tmp_path / "b.tif", "-o", tmp_path / "c.tif", *FAST, "--json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "converged"
    result = tifffile.imread(tmp_path / "c.tif")
    assert (result[..., 3] == 77).all()
    bands[..., 3] = gray
    tifffile.imwrite(tmp_path / "b.tif", bands, photometric="rgb", extrasamples=extra)
    assert run("denoise", tmp_path / "b.tif", "-o", tmp_path / "c.tif", *FAST) == 0
    assert "part 2: sigma: 0.05" in capsys.readouterr().out
    numpy.testing.assert_array_equal(tifffile.imread(tmp_path / "c.tif")[..., 3], results[0])


def test_memory_is_that_of_one_file(folder, tmp_path, monkeypatch):
    """No photograph outlives its turn."""
    import gc

    from convexreg.pictures.photograph import Photograph

    for number in range(4):
        Image.fromarray(_noisy(16, 18, seed=number)).save(folder / f"{number}.png")
    alive = []
    restored = batch.restored_file

    def counted(*arguments):
        told = restored(*arguments)
        gc.collect()
        alive.append(sum(type(item) is Photograph for item in gc.get_objects()))
        return told

    monkeypatch.setattr(batch, "restored_file", counted)
    assert run("denoise", folder, "-o", tmp_path / "out", *FAST) == 0
    assert len(alive) == 7
    assert max(alive) == min(alive)
