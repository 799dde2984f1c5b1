"""deepinv's public benchmark of denoising, by its own protocol, so that anyone can enter a row."""

from __future__ import annotations

from pathlib import Path

import torch
from pandas import DataFrame
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness.datasets import open_images
from benchmarks.harness.options import Options
from benchmarks.harness.records import replace_rows
from benchmarks.harness.registry import Benchmark, Table, register, selected
from convexreg.models.files import pretrained_names
from convexreg.plugin.reconstructor import ConvexReconstructor

SIDE, SIGMA = 256, 0.1
PUBLISHED = {"TV": 27.64, "TGV": 28.06, "DnCNN": 30.39, "SCUNet": 30.89, "DRUNet": 32.16}
"""Rows of the leaderboard as its page shows them (deepinv.github.io/deepinv, benchmarks)."""


class ResizedImages(Dataset[dict[str, Tensor]]):
    """Colour images of 8 bits, each resized to a square and not cropped, `(3, side, side)`."""

    def __init__(self, source: str, limit: int | None, side: int) -> None:
        from torchvision import transforms

        self.images = open_images(source, limit=limit, colour=True)
        self.transform = transforms.Compose(
            [transforms.ToPILImage(), transforms.Resize((side, side)), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return {"x": self.transform((255 * self.images[number][1]).round().byte())}


@register
class Leaderboard(Benchmark):
    """`--images FOLDER` of CBSD68 (else photographs, to try it); `--methods` shipped models, `--models`
    further files."""

    name = "leaderboard"
    description = "deepinv's leaderboard of denoising: CBSD68 at 256 x 256, noise 0.1, deepinv.test"
    file = "leaderboard.csv"
    numbers = ("psnr", "psnr_std")
    restricted_by = ("methods",)

    def run(self, options: Options, folder: Path) -> None:
        import deepinv

        names = dict.fromkeys((*pretrained_names(), *options.models))
        chosen = selected(names, options.methods, "model") if options.methods else names
        images = ResizedImages(
            options.images or "colour-photographs",
            1 if options.tiny else options.limit,
            32 if options.tiny else SIDE,
        )
        for name in chosen:
            noise = deepinv.physics.GaussianNoise(
                sigma=SIGMA, rng=torch.Generator(options.device).manual_seed(options.seed)
            )
            result = deepinv.test(
                ConvexReconstructor(name),
                DataLoader(images),
                deepinv.physics.Denoising(noise, device=options.device),
                metrics=[deepinv.loss.metric.PSNR()],
                online_measurements=True,
                device=options.device,
                compare_no_learning=False,
                verbose=False,
                show_progress_bar=False,
                non_blocking_transfers=options.device != "cpu",
            )
            row = {
                "solver": Path(name).stem,
                "images": len(images),
                "psnr": f"{result['PSNR']:.3f}",
                "psnr_std": f"{result['PSNR_std']:.3f}",
            }
            replace_rows(folder / self.file, [row], "solver")

    def tables(self, folder: Path) -> list[Table]:
        rows = self.rows(folder)
        lines = [
            {
                "solver": row["solver"],
                "PSNR": f"{row['psnr']:.2f} ± {row['psnr_std']:.2f}",
                "images": row["images"],
            }
            for _, row in rows.iterrows()
        ]
        lines += [
            {"solver": f"{name} (published)", "PSNR": f"{psnr:.2f}", "images": "68"}
            for name, psnr in PUBLISHED.items()
        ]
        note = (
            "`deepinv.test` on CBSD68 resized to 256 x 256 with Gaussian noise of 0.1, as the leaderboard "
            "has it: mean and standard deviation over the images."
        )
        return [Table("deepinv's leaderboard of denoising", DataFrame(lines), note)]
