"""
Where the default model acts less
=================================

The default model reconstructs twice. Between the rounds a small network looks at the first image and decides
how strong every term of the second regularizer is at every pixel: less at edges and texture. The second round
is convex given these weights, and certified like any other. This is the denoising problem of
``convexreg demo``.
"""

import deepinv
import matplotlib.pyplot as plt
import torch
from skimage import data, restoration

from convexreg import load_model, reconstruct
from convexreg.adaptive import AdaptiveRegularizer

SIZE = 192
SIGMA = 25 / 255

photograph = torch.from_numpy(data.camera()).float() / 255
clean = photograph[60 : 60 + SIZE, 130 : 130 + SIZE][None, None]
noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
noisy = clean + SIGMA * noise

model = load_model("mgradnet-m-adaptive").regularizer
assert isinstance(model, AdaptiveRegularizer)
physics = deepinv.physics.Denoising()
result = reconstruct(noisy, physics, sigma=SIGMA, regularizer=model)
assert result.first is not None
weights = model.weights(result.first.image, SIGMA)
print(result.summary())

# %%
# Beside it non-local means, at its best strength for this picture.

psnr = deepinv.metric.PSNR()
found = [
    restoration.denoise_nl_means(
        noisy[0, 0].numpy(), 5, 6, h=factor * SIGMA, sigma=SIGMA, fast_mode=True
    )
    for factor in (0.6, 0.8, 1.0)
]
scores = {
    "noisy": float(psnr(noisy, clean)),
    "non-local means": max(float(psnr(torch.from_numpy(f)[None, None], clean)) for f in found),
    "round 0": float(psnr(result.first.image, clean)),
    "convexreg": float(psnr(result.image, clean)),
}
for name, score in scores.items():
    print(f"{name}: {score:.2f} dB")

# %%

busiest = weights[0].log().flatten(1).std(1).argsort(descending=True)[:2].tolist()
panels = [
    (noisy[0, 0], f"noisy, {scores['noisy']:.2f} dB", "gray"),
    (result.first.image[0, 0], f"round 0, {scores['round 0']:.2f} dB", "gray"),
    (result.image[0, 0], f"round 1, {scores['convexreg']:.2f} dB", "gray"),
    (weights[0].log().mean(0).exp(), "mean weight", "magma"),
    *((weights[0, term], f"weight of term {term}", "magma") for term in busiest),
]
figure, axes = plt.subplots(2, 3, figsize=(10, 7), layout="constrained")
for axis, (image, title, colours) in zip(axes.flat, panels, strict=True):
    top = 1.0 if colours == "gray" else float(image.max())
    axis.imshow(image.numpy(), cmap=colours, vmin=0, vmax=top)
    axis.set_title(title)
    axis.axis("off")

# %%
# Frozen weights make a convex prior, which does not depend on the data any more:
# ``model.given(result.first.image, SIGMA)`` is a `ConvexRegularizer` for those images.
