"""A deepinv pipeline gets a learned convex prior: one import, one line.

    python examples/deepinv_pipeline.py --size 96

Proximal gradient descent with total variation, the same with our prior, plug-and-play with our
denoiser, and our own solver as a deepinv model, all by `deepinv.test`.
"""

from __future__ import annotations

import argparse

import deepinv
import torch
from deepinv.optim import L2, PGD, PnP, TVPrior
from skimage import data
from torch.utils.data import DataLoader, Dataset

from convexreg import ConvexDenoiser, ConvexPrior, ConvexReconstructor  # the one import

SIGMA = 0.03


class Photographs(Dataset):
    """Two photographs that come with scikit-image."""

    def __init__(self, size: int) -> None:
        arrays = (data.camera()[60:, 200:], data.coins()[20:, 20:])
        self.images = [torch.from_numpy(a[:size, :size] / 255).float() for a in arrays]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": self.images[index].unsqueeze(0)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=96, help="side of the pictures in pixels")
    parser.add_argument("--iterations", type=int, default=20, help="of deepinv's algorithms")
    options = parser.parse_args(arguments)

    physics = deepinv.physics.Blur(
        filter=deepinv.physics.functional.gaussian_blur(sigma=(1.6, 1.6)),
        padding="circular",
        noise_model=deepinv.physics.GaussianNoise(SIGMA),
    )
    settings = {"data_fidelity": L2(), "stepsize": 1.0, "max_iter": options.iterations}
    convex = ConvexPrior("mgradnet-m")  # the one line
    models = {
        "PGD, total variation": PGD(prior=TVPrior(n_it_max=30), lambda_reg=2e-3, **settings),
        "PGD, ConvexPrior": PGD(prior=convex, g_param=SIGMA, **settings),
        "PnP, ConvexDenoiser": PGD(
            prior=PnP(ConvexDenoiser("mgradnet-m")), g_param=SIGMA, **settings
        ),
        "ConvexReconstructor": ConvexReconstructor("mgradnet-m"),
    }
    for name, model in models.items():
        torch.manual_seed(0)  # the same noise for every model
        scores = deepinv.test(
            model,
            DataLoader(Photographs(options.size)),
            physics,
            metrics=[deepinv.metric.PSNR()],
            online_measurements=True,
            device="cpu",
            non_blocking_transfers=False,
            verbose=False,
            show_progress_bar=False,
        )
        print(f"{name:22} {scores['PSNR']:.2f} dB")

    like = torch.empty(1, 1, options.size, options.size)
    print(f"proven step of gradient descent: {convex.stepsize(physics, like, g_param=SIGMA):.2e}")


if __name__ == "__main__":
    main()
