"""
Borders: deblur without ringing
===============================

A camera sees light from beyond the edges of its picture. Restoring with a blur that wraps around (or repeats)
the borders invents a jump there, which rings through the whole image. ``padding="valid"`` says the truth: the
sharp image is larger than the measured one, and its border is reconstructed as well.
"""

import deepinv
import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage import data, restoration
from torch import Tensor

from convexreg import reconstruct

SIZE = 128
SIGMA = 0.01
MARGIN = 8
ITERATIONS = 150

# %%
# Out of focus: the mean over a disc.

grid = torch.arange(-MARGIN, MARGIN + 1).float()
kernel = (grid[:, None] ** 2 + grid[None] ** 2 <= MARGIN**2 / 2).float()
kernel = (kernel / kernel.sum())[None, None]
side = SIZE + 2 * MARGIN
photograph = torch.from_numpy(data.astronaut()).float() / 255
clean = photograph[20 : 20 + side, 120 : 120 + side].permute(2, 0, 1)[None]
seen = deepinv.physics.Blur(kernel, padding="valid").A(clean)
y = seen + SIGMA * torch.randn(seen.shape, generator=torch.Generator().manual_seed(0))
truth = clean[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
psnr = deepinv.metric.PSNR()

# %%
# The usual thing: mirror the picture at its borders and apply the Wiener filter, at its best strength for
# this photograph.

width = 2 * MARGIN
mirrored = np.pad(y[0].numpy(), ((0, 0), (width, width), (width, width)), mode="reflect")


def wiener(balance: float) -> Tensor:
    planes = [
        np.asarray(restoration.wiener(p, kernel[0, 0].numpy(), balance, clip=False))[
            width:-width, width:-width
        ]
        for p in mirrored
    ]
    return torch.from_numpy(np.stack(planes))[None].float()


images = {
    "Wiener": max(map(wiener, np.logspace(-3, 0, 7)), key=lambda image: float(psnr(image, truth)))
}

# %%
# And three opinions on the borders.

for padding in ("circular", "replicate", "valid"):
    physics = deepinv.physics.Blur(kernel, padding=padding)
    result = reconstruct(y, physics, sigma=SIGMA, max_iter=ITERATIONS)
    image = result.image
    if padding == "valid":  # larger than what was measured: show the same part
        image = image[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    images["convexreg" if padding == "valid" else padding] = image
    print(f"{padding}: {result.summary()}")

scores = {name: float(psnr(image, truth)) for name, image in images.items()}
for name, score in scores.items():
    print(f"{name}: {score:.2f} dB")

# %%

figure, axes = plt.subplots(2, 3, figsize=(10, 7), layout="constrained")
shown = {"photograph": truth, "measured": y, **images}
for axis, (name, image) in zip(axes.flat, shown.items(), strict=True):
    axis.imshow(image[0].permute(1, 2, 0).clamp(0, 1).numpy())
    axis.set_title(f"{name}, {scores[name]:.2f} dB" if name in scores else name)
    axis.axis("off")
