"""A whole reconstruction against the size of the picture: seconds, evaluations and memory."""

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
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from convexreg.reconstruction.from_measurements import reconstruct

SIGMA = 25 / 255
PHOTOGRAPHS = {"gray": "photographs", "colour": "colour-photographs"}
MODELS = {"gray": "mgradnet-m", "colour": "mgradnet-m-colour"}
ADAPTIVE = "-adaptive"
PICTURES = ("gray-0.1", "gray-1", "gray-6", "gray-24", "colour-0.1", "colour-1", "colour-12")


@register
class LargeImages(Benchmark):
    """Denoising with the convex and the adaptive models at noise 25/255, every solve in a process of its own.

    A picture is one photograph, gray or colour, mirrored until it is large enough. Problems are pictures,
    kind and megapixels (`gray-24`).
    """

    name = "large-images"
    description = "Denoising 0.1 to 24 megapixels in gray and colour: seconds and memory"
    file = "solves.csv"
    numbers = ("megapixels", "side", "evaluations", "certified", "seconds", "mebibytes")
    adds_up = False

    def run(self, options: Options, folder: Path) -> None:
        pictures = options.problems or (("gray-0.003",) if options.tiny else PICTURES)
        rows = []
        for picture in pictures:
            kind, size = _parsed(picture)
            models = {name: name for name in (MODELS[kind], MODELS[kind] + ADAPTIVE)}
            for model in selected(models, options.methods, "model", f" for {kind} pictures"):
                with get_context("spawn").Pool(1) as pool:
                    where = (torch.get_num_threads(), options.device)
                    row = pool.apply(_denoise, (kind, size, model, *where))
                rows.append({"kind": kind, "megapixels": size, "model": model, **row})
                write_rows(folder / self.file, rows)

    def tables(self, folder: Path) -> list[Table]:
        rows = self.rows(folder)
        table = DataFrame(
            {
                "picture": rows["kind"] + rows["megapixels"].map(" {:g} MP".format),
                "model": rows["model"],
                "evaluations": rows["evaluations"].map("{:.3g}".format),
                "certified gap": rows["certified"].map("{:.1e}".format),
                "seconds": rows["seconds"].map("{:.2f}".format),
                "seconds per MP": (rows["seconds"] / rows["megapixels"]).map("{:.2f}".format),
                "MiB": rows["mebibytes"].map("{:.0f}".format),
            }
        )
        note = (
            "Float32, noise 25/255; evaluations of all rounds; peak memory beyond what the program takes "
            "without a picture."
        )
        return [Table(self.description, table, note)]

    def headline(self, folder: Path) -> list[Table]:
        return self.tables(folder)

    def figures(self, folder: Path) -> list[Figure]:
        figure, axes = canvas(title="memory of a denoising solve", x="megapixels", y="MiB")
        for model, rows in self.rows(folder).groupby("model", sort=False):
            axes.loglog(rows["megapixels"], rows["mebibytes"], marker="o", label=str(model))
        axes.legend()
        return [Figure("memory", "Peak memory against the size of the picture.", figure)]


def _parsed(picture: str) -> tuple[str, float]:
    """Kind and megapixels.

    :raises ValueError: another text.
    """
    kind, _, size = picture.partition("-")
    try:
        return selected(PHOTOGRAPHS, [kind], "kind of picture").popitem()[0], float(size)
    except ValueError as error:
        raise ValueError(
            f"a picture is for instance gray-24 or colour-12, got {picture!r}"
        ) from error


def _mirrored(kind: str, side: int) -> Tensor:
    """The first photograph of a kind mirrored to `(1, C, side, side)`."""
    _, image = open_images(PHOTOGRAPHS[kind], limit=1)[0]
    height, width = image.shape[-2:]
    rows, columns = (
        (torch.arange(side) % (2 * length)).sub(length - 0.5).abs().sub(0.5).long()
        for length in (height, width)
    )
    return image[:, rows][:, :, columns].unsqueeze(0)


def _denoise(
    kind: str, megapixels: float, model: str, threads: int, device: str
) -> dict[str, object]:
    """One denoising solve at the defaults."""
    import deepinv

    torch.set_num_threads(threads)
    physics = deepinv.physics.Denoising(device=device)
    side = round((1e6 * megapixels) ** 0.5)
    generator = torch.Generator().manual_seed(0)

    def noisy(length: int) -> Tensor:
        clean = _mirrored(kind, length)
        noise = torch.empty_like(clean).normal_(generator=generator)
        return clean.add_(noise, alpha=SIGMA).to(device)

    reconstruct(noisy(32), physics, sigma=SIGMA, regularizer=model)  # loads everything
    before = peak_mebibytes(device)
    y = noisy(side)
    clock = Clock(device)
    result = reconstruct(y, physics, sigma=SIGMA, regularizer=model)
    return {
        "side": side,
        "evaluations": sum(float(each.evaluations) for each in result.rounds),
        "certified": f"{float(result.certificate.relative_gap):.1e}",
        "seconds": f"{clock.seconds:.2f}",
        "mebibytes": f"{peak_mebibytes(device) - before:.0f}",
    }
