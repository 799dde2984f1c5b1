"""deepinv's public benchmark of denoising, by its own protocol, so that anyone can enter a row."""

from __future__ import annotations

from pathlib import Path

import torch
from pandas import DataFrame
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness.options import Options
from benchmarks.harness.records import replace_rows
from benchmarks.harness.registry import Benchmark, Table, register, selected
from convexreg.models.files import pretrained_names
from convexreg.plugin.reconstructor import ConvexReconstructor

SIDE, SIGMA = 256, 0.1
PUBLISHED = {"TV": 27.64, "TGV": 28.06, "DnCNN": 30.39, "SCUNet": 30.89, "DRUNet": 32.16}
"""Rows of the leaderboard as its page shows them (deepinv.github.io/deepinv, benchmarks)."""


class ResizedImages(Dataset[Tensor]):
    """The colour files of a folder, each resized to a square and not cropped, `(3, SIDE, SIDE)`."""

    def __init__(self, folder: Path, limit: int | None, side: int) -> None:
        from torchvision import transforms

        from convexreg.pictures.files import IMAGE_SUFFIXES

        self.paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)[
            :limit
        ]
        if not self.paths:
            raise ValueError(f"{folder} holds no images; give the folder of CBSD68")
        self.transform = transforms.Compose(
            [transforms.Resize((side, side)), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        from PIL import Image

        with Image.open(self.paths[number]) as picture:
            return self.transform(picture.convert("RGB"))


@register
class Leaderboard(Benchmark):
    """`--images FOLDER` of CBSD68; `--methods` shipped models, `--models` further files."""

    name = "leaderboard"
    description = "deepinv's leaderboard of denoising: CBSD68 at 256 x 256, noise 0.1, deepinv.test"
    file = "leaderboard.csv"
    numbers = ("psnr", "psnr_std")
    restricted_by = ("methods",)

    def run(self, options: Options, folder: Path) -> None:
        import deepinv

        if options.images is None or not Path(options.images).is_dir():
            raise ValueError("give --images FOLDER with the 68 colour files of CBSD68")
        names = dict.fromkeys((*pretrained_names(), *options.models))
        chosen = selected(names, options.methods, "model") if options.methods else names
        images = ResizedImages(
            Path(options.images), 1 if options.tiny else options.limit, 32 if options.tiny else SIDE
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
