"""
Tomography from few projections
===============================

A phantom of 125 x 125 pixels seen from 40 directions, with noise: parallel beams, deepinv's operator. Beside
the certified minimiser stands what scikit-image does in three lines: filtered back-projection, and SART, the
algebraic iteration.
"""

import deepinv
import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage import data, transform
from skimage.metrics import peak_signal_noise_ratio

from convexreg import reconstruct

SIZE = 125  # with an odd number of pixels deepinv and scikit-image agree on where the centre is
ANGLES = 40
SIGMA = 0.01
SWEEPS = 10

# %%
# The operator is scaled to norm one, so that ``sigma`` is on the scale that the regularizer knows; the
# sinogram in units of the image is the same times a number.

phantom = np.float32(transform.resize(data.shepp_logan_phantom(), (SIZE, SIZE)))
clean = torch.from_numpy(phantom)[None, None]
physics = deepinv.physics.Tomography(angles=ANGLES, img_width=SIZE, normalize=True)
exact = physics.A(clean)
y = exact + SIGMA * torch.randn(exact.shape, generator=torch.Generator().manual_seed(0))

unscaled = deepinv.physics.Tomography(angles=ANGLES, img_width=SIZE, normalize=False).A(clean)
sinogram = (y * (unscaled * exact).sum() / exact.square().sum())[0, 0].double().numpy()

# %%
# SART gets the bounds of the phantom, and the number of sweeps that is best for it.


def psnr(image: np.ndarray) -> float:
    return float(peak_signal_noise_ratio(phantom, image, data_range=1))


theta = np.linspace(0, 180, ANGLES, endpoint=False)
images = {
    name: transform.iradon(sinogram, theta, filter_name=key, circle=False, output_size=SIZE)
    for name, key in (("ramp filter", "ramp"), ("Hann filter", "hann"))
}
edge = (len(sinogram) - SIZE) // 2
sweeps: list[np.ndarray] = []
image = None
for _ in range(SWEEPS):
    image = transform.iradon_sart(sinogram, theta, image, clip=(0, 1))
    sweeps.append(image[edge : edge + SIZE, edge : edge + SIZE])
images["SART"] = max(sweeps, key=psnr)

# %%
# `convexreg` at its defaults.

result = reconstruct(y, physics, sigma=SIGMA)
images["convexreg"] = result.image[0, 0].numpy()
print(result.summary())

scores = {name: psnr(image) for name, image in images.items()}
for name, score in scores.items():
    print(f"{name}: {score:.2f} dB")

# %%

figure, axes = plt.subplots(1, 5, figsize=(14, 3.2), layout="constrained")
for axis, (name, image) in zip(axes, {"phantom": phantom, **images}.items(), strict=True):
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set_title(f"{name}, {psnr(image):.2f} dB" if name != "phantom" else name)
    axis.axis("off")
