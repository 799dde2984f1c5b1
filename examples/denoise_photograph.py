"""
Denoise your photograph
=======================

A colour photograph as an array of bytes, with noise whose strength nobody has measured. One call takes it
and gives an array of the same kind back::

    clean = convexreg.denoise(noisy)

On the command line that is ``convexreg denoise noisy.png -o clean.png``.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from skimage import data, restoration
from skimage.filters import gaussian
from skimage.metrics import peak_signal_noise_ratio

import convexreg

SIZE = 160
SIGMA = 25 / 255

# %%
# A cut-out of a photograph, with noise of standard deviation 25 gray levels, rounded to bytes as a camera
# does.

photograph = data.astronaut()[20 : 20 + SIZE, 140 : 140 + SIZE]
clean = photograph / 255
noise = np.random.default_rng(0).normal(scale=SIGMA, size=clean.shape)
noisy = (255 * (clean + noise)).round().clip(0, 255).astype(np.uint8)

restored = convexreg.denoise(noisy)

# %%
# Beside it, what scikit-image offers in a line. Those methods are given the true noise level, and those
# with a strength get the one that is best for this picture, which takes the photograph without noise to
# find out. `convexreg` has estimated the level and knows nothing else.


def psnr(image: np.ndarray) -> float:
    return float(peak_signal_noise_ratio(clean, image, data_range=1))


measured = noisy / 255
colour: dict[str, Any] = {"channel_axis": -1}
candidates = {
    "Gaussian filter": [gaussian(measured, width, **colour) for width in (0.7, 1.0, 1.4)],
    "total variation": [
        restoration.denoise_tv_chambolle(measured, weight, **colour) for weight in (0.1, 0.15, 0.2)
    ],
    "wavelets": [restoration.denoise_wavelet(measured, sigma=SIGMA, convert2ycbcr=True, **colour)],
    "non-local means": [
        restoration.denoise_nl_means(
            measured, 5, 6, h=factor * SIGMA, sigma=SIGMA, fast_mode=True, **colour
        )
        for factor in (0.6, 0.8)
    ],
    "convexreg": [restored / 255],
}
images = {name: max(found, key=psnr) for name, found in candidates.items()}
scores = {name: psnr(image) for name, image in images.items()}
print(f"noisy: {psnr(measured):.2f} dB")
for name, score in scores.items():
    print(f"{name}: {score:.2f} dB")

# %%

panels = {"photograph": clean, "noisy": measured, **images}
figure, axes = plt.subplots(2, 4, figsize=(12, 6.4), layout="constrained")
for axis in axes.flat:
    axis.axis("off")
for axis, (name, image) in zip(axes.flat, panels.items(), strict=False):
    axis.imshow(image.clip(0, 1))
    axis.set_title(name if image is clean else f"{name}, {psnr(image):.2f} dB")

# %%
# Units: for integers of 8 and 16 bits ``sigma`` is a fraction of white (``25/255``), for floats it has the
# unit of the pixels. A stack of pictures, a tensor, or one level per pixel will do as well; see
# `convexreg.denoise`.
