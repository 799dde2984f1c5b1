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
    assert "share their noise" not in said.err
    smooth = torch.nn.functional.avg_pool2d(pixels[:1], 3, 1, 1)
    write_image(tmp_path / "in.tif", Photograph(smooth, None, 32))
    assert run("denoise", tmp_path / "in.tif", *options) == 0
    assert "share their noise" in capsys.readouterr().err


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


def _mapped() -> tuple[numpy.ndarray, numpy.ndarray]:
    """Noise four times as strong on the right."""
    levels = numpy.full(CLEAN.shape, 0.04)
    levels[:, 32:] = 0.16
    return CLEAN + levels * NOISE, levels


COMMANDS = {
    "denoise": ("denoise",),
    "deblur": ("deblur", "--gaussian", "0.6"),
    "inpaint": ("inpaint", "--mask", "mask.npy"),
    "superresolve": ("superresolve",),
}


@over("command", COMMANDS)
def test_a_noise_map_for_every_operator(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    noisy, levels = _mapped()
    numpy.save("in.npy", noisy)
    numpy.save("levels.npy", levels)
    numpy.save("mask.npy", numpy.indices(CLEAN.shape).sum(0) % 7 == 0)
    options = ("-o", "o.npy", "-m", "mgradnet-m", "--fast", "--json", "-q")
    assert run(*command, "in.npy", "--noise-map", "levels.npy", *options) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sigma"] == pytest.approx(numpy.sqrt((levels**2).mean()), rel=1e-5)
    assert numpy.load("o.npy").shape[0] in (64, 128)
    assert run(*command, "in.npy", "--noise-map", "levels.npy", *options[:1], "levels.npy") == 2
    assert "would be overwritten" in capsys.readouterr().err


def test_a_noise_map_is_in_the_numbers_of_the_picture(tmp_path):
    noisy, levels = _mapped()
    errors = []
    for kind, white in ((numpy.float32, 1), (numpy.uint8, 255), (numpy.uint16, 65535)):
        whole = kind != numpy.float32
        pixels = (noisy.clip(0, 1) * white).round() if whole else noisy
        tifffile.imwrite(tmp_path / "in.tif", pixels.astype(kind))
        tifffile.imwrite(tmp_path / "levels.tif", (white * levels).astype(kind))
        options = ("-o", tmp_path / "o.tif", "--noise-map", tmp_path / "levels.tif", "-q")
        assert run("denoise", tmp_path / "in.tif", *options) == 0
        errors.append(((tifffile.imread(tmp_path / "o.tif") / white - CLEAN) ** 2).mean())
    assert max(errors) < 1.5 * min(errors)  # clipping costs
    assert run("denoise", tmp_path / "in.tif", *options[:2], "--sigma", "0.117", "-q") == 0
    one = ((tifffile.imread(tmp_path / "o.tif") / white - CLEAN) ** 2).mean()
    assert max(errors) < 0.95 * one


def test_a_noise_map_for_every_channel(tmp_path):
    """Gray saved as colour, whose channels have noise of their own strength, is colour."""
    levels = numpy.array([0.02, 0.05, 0.2])
    noise = numpy.random.default_rng(1).standard_normal((*CLEAN.shape, 3))
    noisy = CLEAN[..., None] + levels * noise
    numpy.save(tmp_path / "in.npy", noisy)
    for given, name in ((levels, "levels"), (levels[::-1], "wrong")):
        numpy.save(tmp_path / f"{name}.npy", numpy.broadcast_to(given, noisy.shape))
        options = ("-o", tmp_path / f"{name}-o.npy", "-m", "mgradnet-m", "-q")
        assert (
            run("denoise", tmp_path / "in.npy", "--noise-map", tmp_path / f"{name}.npy", *options)
            == 0
        )
    right, wrong = (
        ((numpy.load(tmp_path / f"{name}-o.npy") - CLEAN[..., None]) ** 2).mean()
        for name in ("levels", "wrong")
    )
    assert right < 0.5 * wrong


MAPS = {
    "size": (numpy.ones((3, 3)), "is 3 x 3 and the photograph 64 x 64"),
    "channels": (numpy.ones((64, 64, 2)) * [0.1, 0.2], "has 2 channels and the photograph 1"),
    "negative": (numpy.full((64, 64), -0.1), "must be positive"),
    "zero": (numpy.eye(64), "must be positive"),
    "nan": (numpy.full((64, 64), numpy.nan), "NaN"),
    "fractions": (numpy.full((64, 64), 0.05), "multiply fractions of white by 255"),
    "stack": (numpy.ones((5, 64, 64)), "has 5 pictures"),
    "words": (numpy.full((64, 64), "a"), "numbers"),
}


@over("case", MAPS)
def test_noise_maps_that_are_none(tmp_path, capsys, case):
    levels, message = case
    numpy.save(tmp_path / "levels.npy", levels)
    write_image(tmp_path / "in.png", Photograph(torch.rand(1, 64, 64), None, 8))
    options = ("--noise-map", tmp_path / "levels.npy", "-o", tmp_path / "o.png", "-q")
    assert run("denoise", tmp_path / "in.png", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o.png").exists()


def test_photon_noise_is_recognised_and_said(tmp_path, capsys):
    clean = data.camera()[:256, :256] / 255.0
    random = numpy.random.default_rng(0)
    options = ("-o", tmp_path / "o.npy", "-m", "mgradnet-m", "--fast", "-q")
    numpy.save(tmp_path / "in.npy", random.poisson(50 * clean) / 50)
    assert run("denoise", tmp_path / "in.npy", *options) == 0
    said = capsys.readouterr()
    assert "the noise grows with the brightness" in said.err
    assert "photon noise of gain 0.019" in said.out
    assert said.out.count("sigma") == 1
    assert run("denoise", tmp_path / "in.npy", "--gain", "0", *options) == 0
    assert "of photon noise" not in "".join(capsys.readouterr())
    numpy.save(tmp_path / "in.npy", clean + 0.1 * random.standard_normal(clean.shape))
    assert run("denoise", tmp_path / "in.npy", *options) == 0
    assert "of photon noise" not in "".join(capsys.readouterr())
