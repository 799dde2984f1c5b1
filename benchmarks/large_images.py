"""A whole reconstruction against the size of the image: seconds, evaluations and memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness.clock import Clock
from benchmarks.harness.datasets import open_images
from benchmarks.harness.drawing import canvas
from benchmarks.harness.memory import peak_mebibytes
from benchmarks.harness.options import Options
from benchmarks.harness.records import read_rows, write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register
from convexreg.cli.memory import keep_freed_memory
from convexreg.reconstruction.from_measurements import reconstruct

MEGAPIXELS = (0.1, 1.0, 6.0, 24.0)
SIGMA = 25 / 255


@dataclass(frozen=True)
class Solve:
    """One denoising solve to the default certified gap of 1e-4."""

    megapixels: float
    side: int
    evaluations: float
    certified: str
    seconds: str
    mebibytes: str


@register
class LargeImages(Benchmark):
    """Denoising with the default model at noise 25/255, every size in a process of its own.

    The images are one photograph mirrored until it is large enough. Problems are megapixels.
    """

    name = "large-images"
    description = "Denoising 0.1 to 24 megapixels: seconds and memory"
    adds_up = False
    restricted_by = ("problems",)

    def run(self, options: Options, folder: Path) -> None:
        sizes = [float(problem) for problem in options.problems]
        rows = []
        for size in sizes or ((0.003,) if options.tiny else MEGAPIXELS):
            with get_context("spawn").Pool(1) as pool:
                solve = pool.apply(_denoise, (size, torch.get_num_threads(), options.device))
            rows.append(asdict(solve))
            write_rows(folder / "solves.csv", rows)

    def tables(self, folder: Path) -> list[Table]:
        rows = [
            {
                "image": f"{float(row['megapixels']):g} MP",
                "evaluations": f"{float(row['evaluations']):g}",
                "certified gap": row["certified"],
                "seconds": row["seconds"],
                "ns per pixel and evaluation": f"{_per_pixel(row):.0f}",
                "MiB": row["mebibytes"],
            }
            for row in read_rows(folder / "solves.csv")
        ]
        note = "Float32, noise 25/255; peak memory beyond what the program takes without an image."
        return [Table(self.description, rows, note)] if rows else []

    def headline(self, folder: Path) -> list[Table]:
        return self.tables(folder)

    def figures(self, folder: Path) -> list[Figure]:
        rows = read_rows(folder / "solves.csv")
        figure, axes = canvas(title="memory of a denoising solve", x="megapixels", y="MiB")
        sizes = [float(row["megapixels"]) for row in rows]
        axes.loglog(sizes, [float(row["mebibytes"]) for row in rows], marker="o")
        return [Figure("memory", "Peak memory against the size of the image.", figure)]


def _per_pixel(row: dict[str, str]) -> float:
    pixels = float(row["side"]) ** 2
    return 1e9 * float(row["seconds"]) / (pixels * float(row["evaluations"]))


def _mirrored(side: int) -> Tensor:
    """The first photograph mirrored to `(1, 1, side, side)`."""
    _, image = open_images("photographs", limit=1)[0]
    height, width = image.shape[-2:]
    rows, columns = (
        (torch.arange(side) % (2 * length)).sub(length - 0.5).abs().sub(0.5).long()
        for length in (height, width)
    )
    return image[:, rows][:, :, columns].unsqueeze(0)


def _denoise(megapixels: float, threads: int, device: str) -> Solve:
    import deepinv

    keep_freed_memory()
    torch.set_num_threads(threads)
    physics = deepinv.physics.Denoising(device=device)
    side = round((1e6 * megapixels) ** 0.5)
    generator = torch.Generator().manual_seed(0)

    def noisy(length: int) -> Tensor:
        clean = _mirrored(length)
        noise = torch.empty_like(clean).normal_(generator=generator)
        return clean.add_(noise, alpha=SIGMA).to(device)

    reconstruct(noisy(32), physics, sigma=SIGMA)  # loads everything
    before = peak_mebibytes(device)
    y = noisy(side)
    clock = Clock(device)
    result = reconstruct(y, physics, sigma=SIGMA)
    return Solve(
        megapixels=megapixels,
        side=side,
        evaluations=float(result.evaluations),
        certified=f"{float(result.certificate.relative_gap):.1e}",
        seconds=f"{clock.seconds:.2f}",
        mebibytes=f"{peak_mebibytes(device) - before:.0f}",
    )
