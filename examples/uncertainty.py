"""How sure is a deblurred photograph? Posterior mean and standard deviation of every pixel.

    python examples/uncertainty.py --size 96 -o uncertainty.png

The problem is that of `convexreg demo`: Gaussian blur (std 1.6), noise 0.03. Several chains sample the
log-concave posterior, until the Monte Carlo error of the mean is 15 % of the standard deviation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import deepinv
import torch
from matplotlib.figure import Figure
from skimage import data

from convexreg.reconstruction.posterior import sample_posterior

SIGMA = 0.03


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="side of the picture in pixels")
    parser.add_argument("--steps", type=int, default=20000, help="at most so many per chain")
    parser.add_argument("-o", "--output", type=Path, default=Path("uncertainty.png"))
    options = parser.parse_args(arguments)

    photograph = torch.from_numpy(data.camera()).float() / 255
    clean = photograph[60 : 60 + options.size, 200 : 200 + options.size][None, None]
    kernel = deepinv.physics.functional.gaussian_blur(sigma=(1.6, 1.6))
    physics = deepinv.physics.Blur(kernel, padding="circular")
    sharp = physics.A(clean)
    noise = torch.randn(sharp.shape, generator=torch.Generator().manual_seed(0))
    y = sharp + SIGMA * noise

    posterior = sample_posterior(
        y,
        physics,
        sigma=SIGMA,
        tol=0.15,
        max_steps=options.steps,
        callback=lambda steps, error: print(
            f"{steps} steps: error of the mean {100 * float(error):.0f} % of the deviation"
        ),
    )
    moments, mode = posterior.moments, posterior.reconstruction.image
    error = (moments.mean - clean).abs()
    inside = float((error <= 2 * moments.std).float().mean())
    print(posterior.summary())
    print(f"{100 * inside:.0f} % of the pixels are within two standard deviations of the mean")

    psnr = deepinv.metric.PSNR()
    scale = float(moments.std.max())
    panels = (
        (y, f"measured, {float(psnr(y, clean)):.2f} dB", 1.0),
        (mode, f"mode, {float(psnr(mode, clean)):.2f} dB", 1.0),
        (moments.mean, f"mean, {float(psnr(moments.mean, clean)):.2f} dB", 1.0),
        (moments.std, f"standard deviation, 0 to {scale:.3f}", scale),
        (error, f"error of the mean, 0 to {2 * scale:.3f}", 2 * scale),
    )
    figure = Figure(figsize=(12, 2.8), layout="constrained")
    for axis, (image, title, top) in zip(figure.subplots(1, 5), panels, strict=True):
        axis.imshow(image[0, 0].numpy(), cmap="gray" if top == 1 else "magma", vmin=0, vmax=top)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(options.output, dpi=120)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
