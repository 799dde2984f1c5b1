"""The noise and the scale of pictures on the command line."""

from __future__ import annotations

import json

import numpy
import pytest
import tifffile
import torch
from skimage import data

from convexreg.pictures.files import Photograph, read_image, write_image
from tests.cli.command import run
from tests.tables import over

CLEAN = data.camera()[100:164, 100:164] / 255.0
NOISE = numpy.random.default_rng(0).standard_normal(CLEAN.shape)

PICTURES = {
    "dark counts": (300 * CLEAN + 100, 8, numpy.uint16, []),
    "counts as floats": (300 * CLEAN + 100, 8, numpy.float32, []),
    "heavy": (CLEAN, 0.5, numpy.float32, []),
    "clean 16 bits": (60000 * CLEAN + 2000, 130, numpy.uint16, ["--sigma", "0.002"]),
    "tiny floats": (1e-6 * CLEAN, 1e-7, numpy.float32, []),
    "its own white": (300 * CLEAN + 100, 8, numpy.uint16, ["--white", "auto"]),
    "photons": (300 * CLEAN + 100, 8, numpy.uint16, ["--gain", "auto"]),
}


@over("picture", PICTURES)
def test_no_level_is_a_dead_end(tmp_path, picture):
    clean, level, kind, options = picture
    noisy = clean + level * NOISE
    noisy = noisy if kind == numpy.float32 else noisy.round()
    tifffile.imwrite(tmp_path / "in.tif", noisy.astype(kind))
    assert run("denoise", tmp_path / "in.tif", "-o", tmp_path / "o.tif", "-q", *options) == 0
    result = tifffile.imread(tmp_path / "o.tif")
    assert result.dtype == kind
    gain = 1 if "--sigma" in options else 4  # of 54 dB there is little to gain
    assert ((result - clean) ** 2).mean() < ((noisy - clean) ** 2).mean() / gain


def test_without_noise_the_picture_is_copied(tmp_path, capsys):
    write_image(tmp_path / "flat.png", Photograph(torch.full((1, 32, 32), 0.5), None, 8))
    options = ("-o", tmp_path / "out.png", "-q", "--json")
    assert run("denoise", tmp_path / "flat.png", *options) == 0
    said = capsys.readouterr()
    assert "the picture is copied" in said.err
    assert json.loads(said.out)["status"] == "copied"
    one, other = (read_image(tmp_path / name).pixels for name in ("flat.png", "out.png"))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_noise_of_very_small_pictures_cannot_be_estimated(tmp_path, capsys):
    write_image(tmp_path / "small.png", Photograph(torch.rand(1, 8, 8), None, 8))
    assert run("denoise", tmp_path / "small.png", "-o", tmp_path / "out.png", "-q") == 2
    assert "give the level: --sigma 0.1" in capsys.readouterr().err


def test_noise_of_every_plane_and_doubts_are_said(tmp_path, capsys):
    levels = torch.tensor([0.02, 0.05, 0.1]).reshape(3, 1, 1)
    pixels = 0.5 + levels * torch.randn(3, 64, 64)
    write_image(tmp_path / "in.tif", Photograph(pixels, None, 32))
    options = ("-o", tmp_path / "o.tif", "-m", "mgradnet-m", "-q", "--json")
    assert run("denoise", tmp_path / "in.tif", *options) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)["sigma_of_planes"]
    assert found == pytest.approx([0.02, 0.05, 0.1], rel=0.1)
    assert "doubtful" not in said.err
    smooth = torch.nn.functional.avg_pool2d(pixels[:1], 3, 1, 1)
    write_image(tmp_path / "in.tif", Photograph(smooth, None, 32))
    assert run("denoise", tmp_path / "in.tif", *options) == 0
    assert "doubtful" in capsys.readouterr().err


def test_deblurring_estimates_the_noise(tmp_path, capsys):
    numpy.save(tmp_path / "k.npy", numpy.ones((3, 3)))
    numpy.save(tmp_path / "in.npy", CLEAN + 0.05 * NOISE)
    options = ("--kernel", tmp_path / "k.npy", "-o", tmp_path / "o.npy", "-q", "--json")
    assert run("deblur", tmp_path / "in.npy", *options) == 0
    assert json.loads(capsys.readouterr().out)["sigma"] == pytest.approx(0.05, rel=0.1)


def test_many_files_and_pages_each_with_its_own_noise_and_white(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    stack = numpy.stack([300 * CLEAN + 100 + 8 * NOISE, 3000 * CLEAN + 1000 + 240 * NOISE])
    tifffile.imwrite(tmp_path / "in" / "stack.tif", stack.round().astype(numpy.uint16))
    numpy.save(tmp_path / "in" / "clean.npy", numpy.full((32, 32), 0.5, numpy.float32))
    options = ("-o", tmp_path / "out", "-m", "mgradnet-m", "--json", "-q")
    assert run("denoise", tmp_path / "in", "--white", "auto", *options) == 0
    said = capsys.readouterr()
    clean, pages = (json.loads(line)["pages"] for line in said.out.splitlines())
    assert clean[0]["status"] == "copied"
    whites = stack.max((1, 2))
    assert [page["sigma"] for page in pages] == pytest.approx([8, 240] / whites, rel=0.2)
    assert "clean.npy: the noise (0) is next to nothing" in said.err
    assert said.err.count("white is") == 3
    result = tifffile.imread(tmp_path / "out" / "stack.tif")
    assert abs(result.mean((1, 2)) / stack.mean((1, 2)) - 1).max() < 0.01
    assert run("denoise", tmp_path / "in", *options[:-2], "-q", "--overwrite") == 0
    assert "clean.npy: sigma 0, copied" in capsys.readouterr().out


def test_other_operators_reach_every_level_too(tmp_path, capsys):
    mask = numpy.zeros(CLEAN.shape, bool)
    mask[20:24] = True
    numpy.save(tmp_path / "mask.npy", mask)
    numpy.save(tmp_path / "in.npy", 0.02 * (CLEAN + 0.02 * NOISE))
    common = (tmp_path / "in.npy", "-o", tmp_path / "o.npy", "-m", "mgradnet-m", "-q")
    holes = ("inpaint", *common, "--mask", tmp_path / "mask.npy", "--sigma", "0.0004")
    assert run(*holes) == 0
    filled = numpy.load(tmp_path / "o.npy") / 0.02
    assert abs(filled - CLEAN)[mask].mean() < 0.1
    assert run("superresolve", *common, "--sigma", "0.0004", "--fast") == 0
    assert numpy.load(tmp_path / "o.npy").shape == (128, 128)
    numpy.save(tmp_path / "in.npy", 100 * CLEAN)
    assert run(*holes) == 2
    assert "--white 255, or --white auto" in capsys.readouterr().err
