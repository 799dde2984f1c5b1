"""Training data: reproducible patches with the noise they say, folders of photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from convexreg.pictures.files import ImageError
from convexreg.training.data import ImageFolder, PatchSampler


def sampler(seed: int = 0, **options) -> PatchSampler:
    images = [torch.rand(1, 17, 23, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    settings = {"batch_size": 64, "patch_size": 6, "sigma_range": (0.01, 0.3)} | options
    return PatchSampler(images, generator=torch.Generator().manual_seed(seed), **settings)


def test_samples_are_reproducible() -> None:
    for first, second in zip(sampler(3).sample(), sampler(3).sample(), strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(sampler(3).sample()[0], sampler(4).sample()[0])
    torch.manual_seed(1)  # the global generator has no part in it
    first = sampler(3).sample()[1]
    torch.manual_seed(2)
    assert torch.equal(sampler(3).sample()[1], first)


def test_samples_are_patches_with_the_noise_they_say() -> None:
    data = sampler(batch_size=600)
    clean, noisy, sigma = data.sample()
    assert clean.shape == noisy.shape == (600, 1, 6, 6)
    assert sigma.shape == (600,)
    assert (sigma >= 0.01).all()
    assert (sigma <= 0.3).all()
    noise = (noisy - clean) / sigma.reshape(-1, 1, 1, 1)
    assert abs(float(noise.mean())) < 0.03
    assert abs(float(noise.std()) - 1) < 0.03
    # the square root of the level is uniform
    uniform = (sigma.sqrt() - 0.01**0.5) / (0.3**0.5 - 0.01**0.5)
    assert abs(float(uniform.mean()) - 0.5) < 0.05
    windows = {
        window.numpy().tobytes()
        for image in data.images
        for variant in _orientations(image[0])
        for window in variant.unfold(0, 6, 1).unfold(1, 6, 1).reshape(-1, 6, 6)
    }
    assert all(patch.numpy().tobytes() in windows for patch in clean[:100, 0])


def _orientations(image: Tensor) -> list[Tensor]:
    turned = [torch.rot90(image, turns) for turns in range(4)]
    return turned + [variant.flip(1) for variant in turned]


def test_patches_larger_than_an_image_are_refused() -> None:
    with pytest.raises(
        ValueError, match="patch size 18 is larger than the smallest image side, 17"
    ):
        sampler(patch_size=18)
    assert sampler(patch_size=17).sample()[0].shape[-1] == 17


def test_folders(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, width in (("b", 5), ("a", 4), ("c", 6)):
        Image.new("L", (width, 3), 51).save(folder / f"{name}.png")
    images = ImageFolder(str(folder))
    assert images.names == ["a", "b", "c"]
    assert [tuple(image.shape) for image in images.images] == [(1, 3, w) for w in (4, 5, 6)]
    torch.testing.assert_close(images.images[0], torch.full((1, 3, 4), 0.2))
    with pytest.raises(ValueError, match="holds no images"):
        ImageFolder(tmp_path)
    for place in (tmp_path / "missing", folder / "a.png"):
        with pytest.raises(ValueError, match="there is no folder"):
            ImageFolder(place)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    Image.new("RGB", (5, 4), (255, 0, 0)).save(tmp_path / "red.PNG")
    assert ImageFolder(tmp_path).images[0].shape == (1, 4, 5)
    torch.testing.assert_close(ImageFolder(tmp_path).images[0][0, 0, 0], torch.tensor(0.299))
    assert ImageFolder(tmp_path, colour=True).images[0][:, 0, 0].tolist() == [1, 0, 0]
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match=r"broken\.png"):
        ImageFolder(tmp_path)
