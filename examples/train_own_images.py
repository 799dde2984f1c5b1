"""Train a convex regularizer on your own images, and use it.

    python examples/train_own_images.py --images FOLDER --steps 300 -o mine.safetensors

Without `--images`, photographs that come with scikit-image. Two stages, as for the shipped models:
matching the score of the noisy images, then differentiating the exact minimiser. A few hundred steps
show how it goes; a good model takes thousands (`convexreg train`).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import deepinv
import torch
from skimage import data, io

from convexreg import ModelConfig, reconstruct, save_model
from convexreg.training.data import ImageFolder
from convexreg.training.log import Record
from convexreg.training.objectives import Equilibrium, Score
from convexreg.training.run import TrainingRun, TrainingSettings

SIGMA = 25 / 255
psnr = deepinv.metric.PSNR()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="a folder of images")
    parser.add_argument("--steps", type=int, default=300, help="of the first stage")
    parser.add_argument("-o", "--output", type=Path, default=Path("mine.safetensors"))
    options = parser.parse_args(arguments)

    torch.manual_seed(0)
    config = ModelConfig("mgradnet-m", channels=(1, 4, 8, 32))
    regularizer = config.build("mine")
    with tempfile.TemporaryDirectory() as folder:
        if options.images is None:
            options.images = Path(folder, "photographs")
            options.images.mkdir()
            for name in ("coins", "moon", "clock", "brick"):
                io.imsave(options.images / f"{name}.png", getattr(data, name)())
        images = ImageFolder(options.images).images
        for objective, steps in ((Score(), options.steps), (Equilibrium(), options.steps // 10)):
            settings = TrainingSettings(steps=steps, batch_size=4, patch_size=40)
            run = TrainingRun(
                regularizer, config, objective, images, Path(folder, str(steps)), settings
            )

            def report(record: Record, every: int = max(1, steps // 5)) -> None:
                if record.step % every == 0:
                    print(f"step {record.step}: loss {record.loss:.3f}, {record.seconds:.0f} s")

            print(type(objective).__name__)
            run.run(report)
    save_model(options.output, regularizer, config, {"trained on": "own images"})

    clean = torch.from_numpy(data.camera()).float()[None, None, 60:188, 200:328] / 255
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    y = clean + SIGMA * noise
    result = reconstruct(y, deepinv.physics.Denoising(), sigma=SIGMA, regularizer=options.output)
    print(f"{float(psnr(y, clean)):.2f} dB -> {float(psnr(result.image, clean)):.2f} dB")
    print(f"{result.summary()}\nwrote {options.output}")


if __name__ == "__main__":
    main()
