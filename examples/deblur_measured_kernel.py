"""
Deblur with a measured kernel
=============================

A camera that was out of focus and shaken, and a picture of a point of light taken with it: that picture is
the blur kernel. On the command line this is ``convexreg deblur blurred.png --kernel point.png -o sharp.png``.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import fftconvolve
from skimage import data, io, restoration
from skimage.metrics import peak_signal_noise_ratio

import convexreg
from convexreg.pictures.kernels import read_kernel

SIZE = 160
SIGMA = 0.01
MARGIN = 10

# %%
# What a point of light becomes, as a camera with 16 bits records it: on a background, and with noise.

rows, columns = np.mgrid[-MARGIN : MARGIN + 1, -MARGIN : MARGIN + 1]
disc = (rows**2 + columns**2 <= 3.2**2).astype(float)
shake = ((abs(rows - 0.5 * columns) < 0.6) & (abs(columns) <= 4)).astype(float)
true_kernel = fftconvolve(disc, shake, mode="same").clip(0)
true_kernel /= true_kernel.sum()
rng = np.random.default_rng(0)
point = 40000 * true_kernel / true_kernel.max() + 900 + rng.normal(scale=60, size=disc.shape)

# %%
# `convexreg.pictures.kernels.read_kernel` reads it from any picture file, subtracts the background that lies
# under the whole kernel, and says what it has done.

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "point.png")
    io.imsave(file, point.round().clip(0, 65535).astype(np.uint16), check_contrast=False)
    read = read_kernel(file)
print("\n".join(read.remarks))
kernel = read.filter[0, 0].numpy()
print(f"distance to the true kernel: {100 * abs(kernel - true_kernel).sum():.1f} % of its sum")

# %%
# The measured photograph is smaller than the scene: light from beyond the edges has been mixed into it.

scene = data.camera()[60 : 60 + SIZE + 2 * MARGIN, 130 : 130 + SIZE + 2 * MARGIN] / 255
clean = scene[MARGIN:-MARGIN, MARGIN:-MARGIN]
blurred = fftconvolve(scene, true_kernel, mode="valid")
blurred = (blurred + rng.normal(scale=SIGMA, size=blurred.shape)).astype(np.float32)

restored = convexreg.deblur(blurred, kernel)  # the noise level is estimated

# %%
# Beside it, scikit-image's Wiener filter and Richardson-Lucy iteration with the same kernel, at the strength
# and after the number of iterations that are best for this picture.


def psnr(image: np.ndarray) -> float:
    return float(peak_signal_noise_ratio(clean, image, data_range=1))


padded = np.pad(blurred, 2 * MARGIN, mode="reflect")
inside = slice(2 * MARGIN, -2 * MARGIN)
candidates = {
    "Wiener": [
        np.asarray(restoration.wiener(padded, kernel, balance, clip=False))[inside, inside]
        for balance in np.logspace(-3, 0, 7)
    ],
    "Richardson-Lucy": [
        restoration.richardson_lucy(padded.clip(1e-3), kernel, count)[inside, inside]
        for count in (5, 10, 15, 20, 30)
    ],
    "convexreg": [restored],
}
images = {name: max(found, key=psnr) for name, found in candidates.items()}
scores = {name: psnr(image) for name, image in images.items()}
print(f"blurred: {psnr(blurred):.2f} dB")
for name, score in scores.items():
    print(f"{name}: {score:.2f} dB")

# %%

panels = {"scene": clean, "measured": blurred, **images}
figure, axes = plt.subplots(2, 3, figsize=(10, 7), layout="constrained")
axes.flat[-1].imshow(point, cmap="gray")
axes.flat[-1].set_title("point of light")
for axis, (name, image) in zip(axes.flat, panels.items(), strict=False):
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set_title(name if image is clean else f"{name}, {psnr(image):.2f} dB")
for axis in axes.flat:
    axis.axis("off")

# %%
# The borders make the difference between a picture and ringing: see :doc:`deblur_photograph`.
