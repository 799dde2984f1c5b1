"""Parallel-beam tomography from few projections: filtered back-projection, and a certified minimiser.

python examples/tomography.py --size 128 -o tomography.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import deepinv
import torch
from matplotlib.figure import Figure
from skimage import data, transform

from convexreg import reconstruct

SIGMA = 0.01
psnr = deepinv.metric.PSNR()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128, help="side of the picture in pixels")
    parser.add_argument("--angles", type=int, default=40, help="number of projections")
    parser.add_argument("-o", "--output", type=Path, default=Path("tomography.png"))
    options = parser.parse_args(arguments)

    head = transform.resize(data.shepp_logan_phantom(), (options.size, options.size))
    clean = torch.from_numpy(head).float()[None, None]
    # scaled to |A| = 1, so that sigma is on the scale the regularizer knows
    physics = deepinv.physics.Tomography(
        angles=options.angles, img_width=options.size, normalize=True
    )
    exact = physics.A(clean)
    y = exact + SIGMA * torch.randn(exact.shape, generator=torch.Generator().manual_seed(0))

    result = reconstruct(y, physics, sigma=SIGMA, lam="discrepancy", max_iter=300)
    panels = (
        (clean, "phantom"),
        (physics.A_dagger(y), "filtered back-projection"),
        (result.image, "certified minimiser"),
    )
    print(f"weight {float(result.lam):.2f}: {result.summary()}")
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axis, (image, title) in zip(figure.subplots(1, 3), panels, strict=True):
        label = f"{title}: {float(psnr(image, clean)):.2f} dB"
        print(label)
        axis.imshow(image[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(label, fontsize=9)
        axis.axis("off")
    figure.savefig(options.output, dpi=120)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
