"""
How sure is a deblurred photograph?
===================================

Posterior mean and standard deviation of every pixel. The problem is that of ``convexreg demo``: a Gaussian
blur of standard deviation 1.6, noise 0.03. Several chains sample the log-concave posterior of the convex
model, until the Monte Carlo errors of mean and standard deviation are 15 % of the standard deviation.
``proven=True`` takes a step with a proof, and many times as many of them.
"""

import deepinv
import matplotlib.pyplot as plt
import torch
from skimage import data

from convexreg.reconstruction.posterior import sample_posterior

SIZE = 64
STEPS = 20000
SIGMA = 0.03

photograph = torch.from_numpy(data.camera()).float() / 255
clean = photograph[60 : 60 + SIZE, 200 : 200 + SIZE][None, None]
kernel = deepinv.physics.functional.gaussian_blur(sigma=(1.6, 1.6))
physics = deepinv.physics.Blur(kernel, padding="circular")
sharp = physics.A(clean)
y = sharp + SIGMA * torch.randn(sharp.shape, generator=torch.Generator().manual_seed(0))

posterior = sample_posterior(y, physics, sigma=SIGMA, tol=0.15, max_steps=STEPS)
moments, mode = posterior.moments, posterior.reconstruction.image
print(posterior.summary())

# %%
# If the posterior was that of photographs, 95 % of the pixels would lie within two standard deviations of the
# mean. It is that of the regularizer, taken for the logarithm of a density.

error = (moments.mean - clean).abs()
inside = float((error <= 2 * moments.std).float().mean())
print(f"{100 * inside:.0f} % of the pixels are within two standard deviations of the mean")

# %%

psnr = deepinv.metric.PSNR()
scale = float(moments.std.max())
panels = (
    (y, f"measured, {float(psnr(y, clean)):.2f} dB", 1.0),
    (mode, f"mode, {float(psnr(mode, clean)):.2f} dB", 1.0),
    (moments.mean, f"mean, {float(psnr(moments.mean, clean)):.2f} dB", 1.0),
    (moments.std, f"standard deviation, 0 to {scale:.3f}", scale),
    (error, f"error of the mean, 0 to {2 * scale:.3f}", 2 * scale),
)
figure, axes = plt.subplots(1, 5, figsize=(14, 3.1), layout="constrained")
for axis, (image, title, top) in zip(axes.flat, panels, strict=True):
    axis.imshow(image[0, 0].numpy(), cmap="gray" if top == 1 else "magma", vmin=0, vmax=top)
    axis.set_title(title)
    axis.axis("off")
