"""One image over several processes: tiles of `deepinv.distributed`, denoised by the convex denoiser."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from deepinv.distributed import DistributedContext, distribute
from skimage import data
from torch import Tensor, distributed, multiprocessing

from convexreg import ConvexDenoiser

SIGMA, OVERLAP, PROCESSES = 25 / 255, 32, 2


def _noisy() -> Tensor:
    clean = torch.from_numpy(data.camera()[120:200, 200:264] / 255).float()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return (clean + SIGMA * noise)[None, None]


def _denoiser() -> ConvexDenoiser:
    return ConvexDenoiser("mgradnet-m")


def _denoise_tiles(number: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=number, world_size=PROCESSES
    )
    with DistributedContext(device_mode="cpu") as context:
        tiles = distribute(
            _denoiser(), context, patch_size=40, overlap=OVERLAP, tiling_dims=(-2, -1)
        )
        numpy.save(folder / f"{number}.npy", tiles(_noisy(), SIGMA).numpy())
        assert len(tiles.local_indices) == tiles.num_patches / PROCESSES
    distributed.destroy_process_group()


def test_tiles_of_two_processes_are_the_image_of_one(tmp_path: Path) -> None:
    """Everywhere if its border is mirrored, as deepinv has it; else away from there."""
    multiprocessing.spawn(_denoise_tiles, (tmp_path,), nprocs=PROCESSES)
    tiles, again = (torch.from_numpy(numpy.load(tmp_path / f"{i}.npy")) for i in range(PROCESSES))
    assert torch.equal(tiles, again)
    noisy, margin = _noisy(), slice(OVERLAP, -OVERLAP)
    mirrored = torch.nn.functional.pad(noisy, (OVERLAP,) * 4, mode="reflect")
    whole = _denoiser()(mirrored, SIGMA)[..., margin, margin]
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-4)
    plain, inside = _denoiser()(noisy, SIGMA), slice(24, -24)
    difference = (tiles - plain).abs()
    assert difference[..., inside, inside].max() < 1e-3
    assert difference.max() > 0.01  # ours sees zeros beyond the border
