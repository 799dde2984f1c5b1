"""Deblur a colour photograph whose borders are cut off, without ringing.

    python examples/deblur_photograph.py --size 192 -o deblurred.png

A camera sees light from beyond the edges of its picture. Restoring with a blur that wraps around (or
repeats) the borders invents a jump there, which rings through the whole image. `padding="valid"` says
the truth: the sharp image is larger than the measured one, and its border is reconstructed as well.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import deepinv
import torch
from matplotlib.figure import Figure
from skimage import data

from convexreg import reconstruct

SIGMA, MARGIN = 0.01, 8
psnr = deepinv.metric.PSNR()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=192, help="side of the measured picture")
    parser.add_argument("--iterations", type=int, default=150, help="at most")
    parser.add_argument("-o", "--output", type=Path, default=Path("deblurred.png"))
    options = parser.parse_args(arguments)

    # out of focus: the mean over a disc of 17 pixels
    grid = torch.arange(-MARGIN, MARGIN + 1).float()
    kernel = (grid[:, None] ** 2 + grid[None] ** 2 <= MARGIN**2 / 2).float()
    kernel = (kernel / kernel.sum())[None, None]
    side = options.size + 2 * MARGIN
    photograph = torch.from_numpy(data.astronaut()).float() / 255
    clean = photograph[20 : 20 + side, 120 : 120 + side].permute(2, 0, 1)[None]
    camera = deepinv.physics.Blur(kernel, padding="valid")
    seen = camera.A(clean)
    y = seen + SIGMA * torch.randn(seen.shape, generator=torch.Generator().manual_seed(0))

    truth = clean[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    panels = [(truth, "photograph"), (y, "measured")]
    for padding in ("circular", "replicate", "valid"):
        physics = deepinv.physics.Blur(kernel, padding=padding)
        result = reconstruct(y, physics, sigma=SIGMA, max_iter=options.iterations)
        image = result.image
        if padding == "valid":  # larger than what was measured: show the same part
            image = image[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
        panels.append((image, f"restored, {padding}"))
        print(f"{padding:10} {float(psnr(image, truth)):.2f} dB, {result.summary()}")

    figure = Figure(figsize=(14, 3.1), layout="constrained")
    for axis, (image, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axis.imshow(image[0].permute(1, 2, 0).clamp(0, 1).numpy())
        axis.set_title(f"{title}: {float(psnr(image, truth)):.2f} dB", fontsize=9)
        axis.axis("off")
    figure.savefig(options.output, dpi=120)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
