"""
Plug into deepinv
=================

A deepinv pipeline gets a learned convex prior by one import and one line: FISTA with total variation, the
same with our prior, plug-and-play with our denoiser, and our own solver as a deepinv model, all measured by
``deepinv.test``.
"""

import deepinv
import matplotlib.pyplot as plt
import torch
from deepinv.optim import FISTA, L2, PGD, PnP, TVPrior
from skimage import data
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from convexreg import ConvexDenoiser, ConvexPrior, ConvexReconstructor  # the one import

SIZE = 96
ITERATIONS = 20
SIGMA = 0.03


class Photographs(Dataset):
    """Two photographs that come with scikit-image."""

    def __init__(self) -> None:
        arrays = (data.camera()[60:, 200:], data.coins()[20:, 20:])
        self.images = [torch.from_numpy(a[:SIZE, :SIZE] / 255).float() for a in arrays]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.images[index].unsqueeze(0)}


physics = deepinv.physics.Blur(
    filter=deepinv.physics.functional.gaussian_blur(sigma=(1.6, 1.6)),
    padding="circular",
    noise_model=deepinv.physics.GaussianNoise(SIGMA),
)

# %%
# The weight of a prior is what the noise asks for as it passes the operator: `ConvexPrior.weight` says it.
# That of total variation is the best of four for these two photographs, which takes the truth to find out.

settings = {"data_fidelity": L2(), "stepsize": 1.0, "max_iter": ITERATIONS}
convex = ConvexPrior("mgradnet-m", warm_start=True)  # the one line
example = next(iter(DataLoader(Photographs())))["x"]
weight = convex.weight(physics, example, physics(example))
print(f"weight of the prior: {weight:.2f}")

variants = {
    "FISTA, total variation": [
        FISTA(prior=TVPrior(n_it_max=30), lambda_reg=strength, **settings)
        for strength in (1e-3, 2e-3, 4e-3, 8e-3)
    ],
    "FISTA, ConvexPrior": [FISTA(prior=convex, g_param=SIGMA, lambda_reg=weight, **settings)],
    "PnP, ConvexDenoiser": [
        PGD(prior=PnP(ConvexDenoiser("mgradnet-m", warm_start=True)), g_param=SIGMA, **settings)
    ],
    "ConvexReconstructor": [ConvexReconstructor("mgradnet-m")],
    "convexreg": [ConvexReconstructor()],
}


def score(model: torch.nn.Module) -> float:
    """Mean PSNR, with the same noise for every model."""
    torch.manual_seed(0)
    return deepinv.test(
        model,
        DataLoader(Photographs()),
        physics,
        metrics=[deepinv.metric.PSNR()],
        online_measurements=True,
        device="cpu",
        non_blocking_transfers=False,
        verbose=False,
        show_progress_bar=False,
    )["PSNR"]


scores = {name: max(map(score, models)) for name, models in variants.items()}
for name, value in scores.items():
    print(f"{name}: {value:.2f} dB")

# %%

figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
axis.barh(list(scores)[::-1], list(scores.values())[::-1])
axis.set_xlim(min(scores.values()) - 1, max(scores.values()) + 0.2)
axis.set_xlabel("mean PSNR in dB")

# %%
# The denoiser is firmly nonexpansive, so that plug-and-play converges, but its weight is one: a denoiser
# cannot know that the blur has weakened the noise. The last line is `ConvexReconstructor` with the default,
# adaptive model. For gradient descent there is a step that is proven not to increase the objective:

step = convex.stepsize(physics, example, lambda_reg=weight, g_param=SIGMA)
print(f"proven step of gradient descent: {step:.2e}")
