"""A whole reconstruction against the size of the image: seconds, evaluations and memory."""

from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path

import torch
from pandas import DataFrame
from torch import Tensor

from benchmarks.harness.clock import Clock
from benchmarks.harness.datasets import open_images
from benchmarks.harness.drawing import canvas
from benchmarks.harness.memory import peak_mebibytes
from benchmarks.harness.options import Options
from benchmarks.harness.records import write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register
from convexreg.reconstruction.from_measurements import reconstruct

MEGAPIXELS = (0.1, 1.0, 6.0, 24.0)
SIGMA = 25 / 255


@register
class LargeImages(Benchmark):
    """Denoising with the default model at noise 25/255, every size in a process of its own.

    The images are one photograph mirrored until it is large enough. Problems are megapixels.
    """

    name = "large-images"
    description = "Denoising 0.1 to 24 megapixels: seconds and memory"
    file = "solves.csv"
    numbers = ("megapixels", "side", "evaluations", "certified", "seconds", "mebibytes")
    adds_up = False
    restricted_by = ("problems",)

    def run(self, options: Options, folder: Path) -> None:
        sizes = [float(problem) for problem in options.problems]
        rows = []
        for size in sizes or ((0.003,) if options.tiny else MEGAPIXELS):
            with get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(_denoise, (size, torch.get_num_threads(), options.device)))
            write_rows(folder / self.file, rows)

    def tables(self, folder: Path) -> list[Table]:
        rows = self.rows(folder)
        pixels = rows["side"] ** 2 * rows["evaluations"]
        table = DataFrame(
            {
                "image": rows["megapixels"].map("{:g} MP".format),
                "evaluations": rows["evaluations"].map("{:g}".format),
                "certified gap": rows["certified"].map("{:.1e}".format),
                "seconds": rows["seconds"].map("{:.2f}".format),
                "ns per pixel and evaluation": (1e9 * rows["seconds"] / pixels).map(
                    "{:.0f}".format
                ),
                "MiB": rows["mebibytes"].map("{:.0f}".format),
            }
        )
        note = "Float32, noise 25/255; peak memory beyond what the program takes without an image."
        return [Table(self.description, table, note)]

    def headline(self, folder: Path) -> list[Table]:
        return self.tables(folder)

    def figures(self, folder: Path) -> list[Figure]:
        rows = self.rows(folder)
        figure, axes = canvas(title="memory of a denoising solve", x="megapixels", y="MiB")
        axes.loglog(rows["megapixels"], rows["mebibytes"], marker="o")
        return [Figure("memory", "Peak memory against the size of the image.", figure)]


def _mirrored(side: int) -> Tensor:
    """The first photograph mirrored to `(1, 1, side, side)`."""
    _, image = open_images("photographs", limit=1)[0]
    height, width = image.shape[-2:]
    rows, columns = (
        (torch.arange(side) % (2 * length)).sub(length - 0.5).abs().sub(0.5).long()
        for length in (height, width)
    )
    return image[:, rows][:, :, columns].unsqueeze(0)


def _denoise(megapixels: float, threads: int, device: str) -> dict[str, object]:
    """One denoising solve to the default certified gap of 1e-4."""
    import deepinv

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
    return {
        "megapixels": megapixels,
        "side": side,
        "evaluations": float(result.evaluations),
        "certified": f"{float(result.certificate.relative_gap):.1e}",
        "seconds": f"{clock.seconds:.2f}",
        "mebibytes": f"{peak_mebibytes(device) - before:.0f}",
    }
