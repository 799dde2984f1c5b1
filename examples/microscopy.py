"""
Microscopy: photon counts
=========================

A microscope counts photons. The noise is Poisson's: its variance is the brightness, so that bright pixels are
noisier, and no single ``sigma`` is right. Two problems: counts without and with a blur.
"""

import deepinv
import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage import data, restoration
from skimage.filters import gaussian
from skimage.metrics import peak_signal_noise_ratio

import convexreg

SIZE = 160
PHOTONS = 60

# %%
# Cells, with 60 photons where it is white.

clean = data.cell()[300 : 300 + SIZE, 360 : 360 + SIZE] / 255
rng = np.random.default_rng(0)
counts = rng.poisson(PHOTONS * clean).astype(np.float32)


def psnr(image: np.ndarray) -> float:
    """Of an image in photons."""
    return float(peak_signal_noise_ratio(clean, image / PHOTONS, data_range=1))


# %%
# The variance of a count is the count itself: photon noise of gain one. `convexreg.denoise` takes the gain
# (``gain="auto"`` estimates it, for cameras whose numbers are not photons). The usual thing is to make the
# variance constant by Anscombe's transform and to denoise as if the noise was Gaussian.

restored = convexreg.denoise(counts, gain=1.0)

transformed = 2 * np.sqrt(counts + 3 / 8)  # noise of standard deviation one
candidates = {
    "Gaussian filter": [gaussian(counts, width) for width in (1.0, 1.5, 2.0, 3.0)],
    "Anscombe, total variation": [
        (restoration.denoise_tv_chambolle(transformed, weight) / 2) ** 2 - 1 / 8
        for weight in (1.0, 1.5, 2.0, 3.0)
    ],
    "Anscombe, non-local means": [
        (restoration.denoise_nl_means(transformed, 5, 6, h=h, sigma=1.0, fast_mode=True) / 2) ** 2
        - 1 / 8
        for h in (0.6, 0.8, 1.0)
    ],
    "convexreg": [restored],
}
images = {name: max(found, key=psnr) for name, found in candidates.items()}
scores = {name: psnr(image) for name, image in images.items()}
print(f"counts: {psnr(counts):.2f} dB")
for name, score in scores.items():
    print(f"{name}: {score:.2f} dB")

# %%

panels = {"cells": PHOTONS * clean, "counts": counts, **images}
figure, axes = plt.subplots(2, 3, figsize=(10, 7), layout="constrained")
for axis, (name, image) in zip(axes.flat, panels.items(), strict=True):
    axis.imshow(image, cmap="gray", vmin=0, vmax=PHOTONS * clean.max())
    axis.set_title(f"{name}, {psnr(image):.2f} dB" if name != "cells" else name)
    axis.axis("off")

# %%
# With a blur
# -----------
#
# The microscope's point spread function and the photon noise together are a deepinv physics. Measurements are
# in units of white, where one photon is the ``gain``; `convexreg.reconstruct` takes the noise from the
# physics: it weighs every measurement by its variance. The usual thing is Richardson-Lucy, which is made for
# Poisson noise and has to be stopped early, here after the number of iterations that is best for this
# picture.

kernel = deepinv.physics.functional.gaussian_blur(sigma=(1.6, 1.6))
physics = deepinv.physics.Blur(
    kernel, padding="circular", noise_model=deepinv.physics.PoissonNoise(gain=1 / PHOTONS)
)
scene = torch.from_numpy(clean).float()[None, None]
y = torch.from_numpy(rng.poisson(PHOTONS * physics.A(scene).numpy())).float() / PHOTONS

result = convexreg.reconstruct(y, physics)
print(result.summary())

counted = y[0, 0].numpy()
padded = np.pad(counted, 16, mode="wrap")
lucy = [
    restoration.richardson_lucy(padded.clip(1e-3), kernel[0, 0].numpy(), count)[16:-16, 16:-16]
    for count in (3, 6, 10, 15, 25)
]
blurred_images = {
    "Richardson-Lucy": max(lucy, key=lambda image: psnr(PHOTONS * image)),
    "convexreg": result.image[0, 0].numpy(),
}
blurred_scores = {name: psnr(PHOTONS * image) for name, image in blurred_images.items()}
for name, score in blurred_scores.items():
    print(f"{name}: {score:.2f} dB")

# %%

figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
for axis, (name, image) in zip(axes, {"measured": counted, **blurred_images}.items(), strict=True):
    axis.imshow(image, cmap="gray", vmin=0, vmax=clean.max())
    axis.set_title(f"{name}, {psnr(PHOTONS * image):.2f} dB")
    axis.axis("off")

# %%
# The exact Poisson likelihood instead of weighted squares is
# ``reconstruct(..., fidelity=deepinv.optim.PoissonLikelihood(gain=..., bkg=...))``.
