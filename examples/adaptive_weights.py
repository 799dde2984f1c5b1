"""Where an adaptive regularizer acts less: one photograph, both rounds, and the weights in between.

    python examples/adaptive_weights.py --size 256 -o weights.png

The problem is the denoising problem of `convexreg demo` (noise 25/255). The second round is convex given
the weights, and certified like any other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import deepinv
import torch
from matplotlib.figure import Figure
from skimage import data

from convexreg import load_model, reconstruct
from convexreg.adaptive import AdaptiveRegularizer

SIGMA = 25 / 255


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="side of the picture in pixels")
    parser.add_argument("-o", "--output", type=Path, default=Path("weights.png"))
    options = parser.parse_args(arguments)

    photograph = torch.from_numpy(data.camera()).float() / 255
    clean = photograph[60 : 60 + options.size, 130 : 130 + options.size][None, None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = clean + SIGMA * noise

    model = load_model("mgradnet-m-adaptive").regularizer
    assert isinstance(model, AdaptiveRegularizer)
    result = reconstruct(noisy, deepinv.physics.Denoising(), sigma=SIGMA, regularizer=model)
    assert result.first is not None
    weights = model.weights(result.first.image, SIGMA)
    noisy_score, first_score, score = (
        f"{float(deepinv.metric.PSNR()(image, clean)):.2f} dB"
        for image in (noisy, result.first.image, result.image)
    )
    print(result.summary())
    print(f"{noisy_score} noisy, {first_score} after round 0, {score} after round 1")

    busiest = weights[0].log().flatten(1).std(1).argsort(descending=True)[:2].tolist()
    panels = [
        (noisy[0, 0], f"noisy, {noisy_score}", "gray"),
        (result.first.image[0, 0], f"round 0, {first_score}", "gray"),
        (weights[0].log().mean(0).exp(), "mean weight", "magma"),
        *((weights[0, term], f"weight of term {term}", "magma") for term in busiest),
        (result.image[0, 0], f"round 1, {score}", "gray"),
    ]
    figure = Figure(figsize=(13, 2.6), layout="constrained")
    for axis, (image, title, colours) in zip(figure.subplots(1, 6), panels, strict=True):
        top = 1.0 if colours == "gray" else float(image.max())
        axis.imshow(image.numpy(), cmap=colours, vmin=0, vmax=top)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(options.output, dpi=120)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
