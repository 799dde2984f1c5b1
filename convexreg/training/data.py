"""Training images: a folder, random patches, and noise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from convexreg.pictures.files import IMAGE_SUFFIXES, read_image


class ImageFolder:
    """The images of a folder as tensors `(C, H, W)` in [0, 1], in the order of their names.

    :param white: the number in the files that becomes 1, see `images.read_image`.
    :param colour: keep colour images as they are, `(3, H, W)`; else they are made gray.
    :param reduce: blocks of so many pixels a side become one, which loses the artefacts of JPEG files.
    :ivar doubtful: names of the images whose white is probably another one (`Photograph.doubtful_white`).
    :raises ValueError: no folder, no image in it, or one smaller than a block.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        white: float | None = None,
        colour: bool = False,
        reduce: int = 1,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"there is no folder {self.folder}; give a folder of photographs")
        paths = sorted(
            path
            for path in self.folder.glob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        )
        if not paths:
            raise ValueError(
                f"{self.folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); give a folder "
                "of photographs"
            )
        self.names = [path.stem for path in paths]
        self.images: list[Tensor] = []
        self.doubtful: list[str] = []
        for path in paths:
            photograph = read_image(path, white=white)
            pixels = photograph.pixels if colour else photograph.gray()
            if min(pixels.shape[1:]) < reduce:
                raise ValueError(
                    f"{path} is {pixels.shape[1]} x {pixels.shape[2]}, smaller than the blocks of {reduce} "
                    "pixels a side that become one"
                )
            self.images.append(functional.avg_pool2d(pixels, reduce) if reduce > 1 else pixels)
            if photograph.doubtful_white:
                self.doubtful.append(path.stem)


def digest(tensors: Iterable[Tensor]) -> str:
    """Tells training data, or weights, from others: 16 hexadecimal digits of their shapes and values."""
    content = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous().numpy()
        content.update(str(array.shape).encode() + array.tobytes())
    return content.hexdigest()[:16]


class PatchSampler:
    """Random noisy patches: uniform in image and place, flipped and rotated, with their noise level.

    The noise level is the square of a uniform number between the roots of the limits, so that low
    levels, where details differ more, come up more often.

    :param generator: all randomness; its state makes a run resumable.
    :raises ValueError: an image smaller than the patch.
    """

    def __init__(
        self,
        images: Sequence[Tensor],
        *,
        batch_size: int,
        patch_size: int,
        sigma_range: tuple[float, float],
        generator: torch.Generator,
    ) -> None:
        smallest = min(min(image.shape[-2:]) for image in images)
        if smallest < patch_size:
            raise ValueError(
                f"the patch size {patch_size} is larger than the smallest image side, {smallest}"
            )
        self.images, self.batch_size, self.patch_size = images, batch_size, patch_size
        self.sigma_range, self.generator = sigma_range, generator

    def _integer(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self.generator))

    def _patch(self) -> Tensor:
        image, size = self.images[self._integer(len(self.images))], self.patch_size
        top = self._integer(image.shape[-2] - size + 1)
        left = self._integer(image.shape[-1] - size + 1)
        patch = image[..., top : top + size, left : left + size]
        patch = torch.rot90(patch, self._integer(4), (-2, -1))
        return patch.flip(-1) if self._integer(2) else patch

    def sample(self) -> tuple[Tensor, Tensor, Tensor]:
        """Clean patches `(B, 1, size, size)`, noisy ones, and noise levels `(B,)`."""
        clean = torch.stack([self._patch() for _ in range(self.batch_size)])
        low, high = (limit**0.5 for limit in self.sigma_range)
        uniform = torch.rand(self.batch_size, generator=self.generator)
        sigma = (low + (high - low) * uniform).square().clamp(*self.sigma_range)
        noise = torch.randn(clean.shape, generator=self.generator)
        return clean, clean + sigma[:, None, None, None] * noise, sigma
