"""Blurs by a number or a kernel, inpainting and super-resolution on the command line."""

from __future__ import annotations

import json

import numpy
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from convexreg.models.files import DEFAULT_MODEL
from convexreg.pictures.kernels import disc, gaussian, motion
from tests.cli.command import run

FAST = ("--fast", "-m", "mgradnet-m", "-q")
ROWS, COLUMNS = numpy.mgrid[:48, :40]
SCENE = 0.5 + 0.3 * numpy.sin(ROWS / 4) * numpy.cos(COLUMNS / 3)


def _noise(shape: tuple[int, ...], sigma: float) -> numpy.ndarray:
    return sigma * numpy.random.default_rng(0).standard_normal(shape)


BLURS = {
    "gaussian": (["--gaussian", "1.6"], gaussian(1.6)),
    "disc": (["--disc", "2.5"], disc(2.5)),
    "motion": (["--motion", "7", "30"], motion(7, 30)),
}


@pytest.mark.parametrize("name", BLURS)
def test_blurs_by_a_number(tmp_path, capsys, name):
    options, kernel = BLURS[name]
    blurred = ndimage.convolve(SCENE, kernel.filter[0, 0].double().numpy(), mode="reflect")
    blurred = (blurred + _noise(blurred.shape, 0.01)).astype(numpy.float32)
    numpy.save(tmp_path / "in.npy", blurred)
    command = (
        "deblur",
        tmp_path / "in.npy",
        *options,
        "-o",
        tmp_path / "out.npy",
        "--sigma",
        ".01",
    )
    assert run(*command, *FAST) == 0
    assert "sigma: 0.01" in capsys.readouterr().out
    inside = (slice(8, -8), slice(8, -8))
    errors = [
        numpy.std((image - SCENE)[inside]) for image in (blurred, numpy.load(tmp_path / "out.npy"))
    ]
    assert errors[1] < 0.7 * errors[0]


def test_one_blur_at_a_time(tmp_path, capsys, photo):
    with pytest.raises(SystemExit):
        run(
            "deblur", photo, "-o", tmp_path / "o.png", "--sigma", ".1", "--disc", 2, "--gaussian", 1
        )
    assert "not allowed with argument" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("deblur", photo, "-o", tmp_path / "o.png", "--sigma", ".1")
    assert "--kernel --gaussian --disc --motion" in capsys.readouterr().err
    command = ("deblur", photo, "-o", tmp_path / "o.png", "--sigma", ".1", "--motion")
    assert run(*command, 0, 30) == 2
    assert "length of the motion must be positive and at most 200" in capsys.readouterr().err


@pytest.mark.parametrize("boundary", ["valid", "replicate"])
@pytest.mark.parametrize("equal", [False, True])
def test_a_kernel_for_each_channel(tmp_path, capsys, boundary, equal):
    """Of colour, gray stored as colour, and of bands."""
    kernels = numpy.zeros((3, 5, 5))
    kernels[0, 2, 2], kernels[1, 2], kernels[2, :, 2] = 1, 1, 1
    numpy.save(tmp_path / "k.npy", kernels)
    scene = SCENE[..., None] + (0 if equal else numpy.array([0, 0.1, -0.1]))
    sharp = numpy.broadcast_to(scene, (48, 40, 3))
    planes = [
        ndimage.convolve(plane, kernel / kernel.sum(), mode="reflect")
        for plane, kernel in zip(numpy.moveaxis(sharp, -1, 0), kernels, strict=True)
    ]
    array = numpy.stack(planes, -1).astype(numpy.float32)
    for photometric in ("rgb", "minisblack"):
        extra = ["unspecified"] * 2 if photometric == "minisblack" else None
        tifffile.imwrite(
            tmp_path / "in.tif",
            array,
            photometric=photometric,
            extrasamples=extra,
            planarconfig="contig",
        )
        command = (
            "deblur",
            tmp_path / "in.tif",
            "--kernel",
            tmp_path / "k.npy",
            "--boundary",
            boundary,
        )
        assert run(*command, "-o", tmp_path / "out.tif", "--sigma", ".005", *FAST) == 0
        result = tifffile.imread(tmp_path / "out.tif")
        inside = (slice(8, -8), slice(8, -8))
        assert numpy.std((result - sharp)[inside]) < 0.5 * numpy.std((array - sharp)[inside])
    assert "sums to 1 / 5 / 5; normalised" in capsys.readouterr().err


def test_inpainting(tmp_path, capsys):
    mask = numpy.random.default_rng(1).random(SCENE.shape) < 0.3
    noisy = (SCENE + _noise(SCENE.shape, 0.01)).clip(0, 1)
    holes = numpy.round(numpy.where(mask, 0.0, noisy) * 255).astype(numpy.uint8)
    for name, image in (("in", holes), ("mask", mask), ("small", mask[:9])):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    command = ("inpaint", tmp_path / "in.png", "-o", tmp_path / "out.png", "--sigma", ".01", *FAST)
    assert run(*command, "--mask", tmp_path / "mask.png") == 0
    with Image.open(tmp_path / "out.png") as result:
        error = numpy.asarray(result) / 255 - SCENE
    assert numpy.std(error[mask]) < 0.05
    assert f"missing: {100 * mask.mean():.3g} %" in capsys.readouterr().out
    assert run(*command, "--mask", tmp_path / "small.png") == 2
    assert "the mask is 9 x 40 and the photograph 48 x 40" in capsys.readouterr().err
    Image.fromarray(~mask).save(tmp_path / "inverted.png")
    assert run(*command, "--mask", tmp_path / "inverted.png") == 0
    assert "marks more than half; white is what is missing" in capsys.readouterr().err


@pytest.mark.parametrize("factor", [2, 3])
def test_super_resolution(tmp_path, capsys, factor):
    """Aligned with the scene, with smaller pixels and larger transparency."""
    size = (48, 40 // factor * factor)
    wanted = SCENE[:, : size[1]]
    small = wanted.reshape(size[0] // factor, factor, size[1] // factor, factor).mean((1, 3))
    array = numpy.round(numpy.dstack([small, numpy.full_like(small, 0.5)]) * 65535)
    tifffile.imwrite(
        tmp_path / "in.tif",
        array.astype(numpy.uint16),
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
        resolution=(100, 100),
        resolutionunit=2,
    )
    command = ("superresolve", tmp_path / "in.tif", "-o", tmp_path / "out.tif", "--sigma", ".005")
    assert run(*command, "--factor", factor, "--json", *FAST) == 0
    assert 0.1 < json.loads(capsys.readouterr().out)["lam"] < 0.6
    result = tifffile.imread(tmp_path / "out.tif") / 65535
    assert result.shape == (*size, 2)
    assert abs(result[..., 1] - 0.5).max() < 1e-3
    inside = (slice(6, -6), slice(6, -6))
    squares = numpy.kron(small, numpy.ones((factor, factor)))
    errors = [numpy.std((image - wanted)[inside]) for image in (squares, result[..., 0])]
    assert errors[1] < 0.25 * errors[0]
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages.first.resolution == (100 * factor, 100 * factor)


def test_info_is_a_table_and_a_card(capsys):
    assert run("info") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["model", "architecture", "rounds"]
    assert any(line.startswith("mgradnet-m ") and "1 to 50 / 255" in line for line in lines)
    assert len(lines) < 10
    assert run("info", "crr") == 0
    assert "architecture: crr" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "gap"),
    [("denoise", "0.001"), ("deblur", "0.01"), ("inpaint", "0.01"), ("superresolve", "0.01")],
)
def test_help_shows_the_defaults_of_the_command(capsys, command, gap):
    with pytest.raises(SystemExit):
        run(command, "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert '"auto" (default: one for denoising' in said
    assert f"gap to reach (default: {gap})" in said
    assert f"(default: {DEFAULT_MODEL})" in said
