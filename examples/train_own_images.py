"""
Train your own
==============

A small convex regularizer learned from four photographs, and used. It takes a minute to see how it goes; a
good model takes thousands of steps on hundreds of images: ``convexreg train photos/ -o mine.safetensors``.
"""

import tempfile
from pathlib import Path

import deepinv
import matplotlib.pyplot as plt
import torch
from skimage import data, io, restoration

from convexreg import ModelConfig, reconstruct, save_model
from convexreg.training.data import ImageFolder
from convexreg.training.log import Record
from convexreg.training.objectives import Equilibrium, Score
from convexreg.training.run import TrainingRun
from convexreg.training.settings import TrainingSettings

STEPS = 300
SIGMA = 25 / 255

# %%
# The architecture is that of ``mgradnet-m``: three convolutions that are one filter of 13 x 13 pixels each,
# under rounded absolute values of groups of two. Convex whatever the parameters are.

torch.manual_seed(0)
config = ModelConfig("mgradnet-m", channels=(1, 4, 8, 32))
regularizer = config.build("mine")

# %%
# Two stages, as for the shipped models. *Score* matches the gradient to the noise, which is cheap.
# *Equilibrium* differentiates the exact minimiser through its optimality condition; since minimisers are what
# is computed afterwards, it is the one to end with.

losses: dict[str, list[float]] = {}
with tempfile.TemporaryDirectory() as folder:
    photographs = Path(folder, "photographs")
    photographs.mkdir()
    for name in ("coins", "moon", "clock", "brick"):
        io.imsave(photographs / f"{name}.png", getattr(data, name)())
    images = ImageFolder(photographs).images
    for objective, steps in ((Score(), STEPS), (Equilibrium(), STEPS // 10)):
        found = losses[type(objective).__name__] = []

        def keep(record: Record, found: list[float] = found) -> None:
            found.append(record.loss)

        settings = TrainingSettings(steps=steps, batch_size=4, patch_size=40)
        runs = Path(folder, type(objective).__name__)
        TrainingRun(regularizer, config, objective, images, runs, settings).run(keep)
    model_file = Path(folder, "mine.safetensors")
    save_model(model_file, regularizer, config, {"trained on": "four photographs"})

    # A file is a model wherever one is asked for.
    photograph = torch.from_numpy(data.camera()).float()[60:188, 200:328] / 255
    clean = photograph[None, None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = clean + SIGMA * noise
    physics = deepinv.physics.Denoising()
    result = reconstruct(noisy, physics, sigma=SIGMA, regularizer=model_file)
    shipped = reconstruct(noisy, physics, sigma=SIGMA, regularizer="mgradnet-m")

print(result.summary())

# %%
# What there is without training is total variation, here at its best weight for this picture; and the model
# that is shipped, trained in hours rather than in a minute.

denoised = [restoration.denoise_tv_chambolle(noisy[0, 0].numpy(), w) for w in (0.06, 0.1, 0.14)]
psnr = deepinv.metric.PSNR()
scores = {
    "total variation": max(float(psnr(torch.from_numpy(d)[None, None], clean)) for d in denoised),
    "trained here": float(psnr(result.image, clean)),
    "convexreg": float(psnr(shipped.image, clean)),
}
print(f"noisy: {float(psnr(noisy, clean)):.2f} dB")
for name, score in scores.items():
    print(f"{name}: {score:.2f} dB")

# %%

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for axis, (name, found) in zip(axes, losses.items(), strict=True):
    axis.plot(range(1, len(found) + 1), found, linewidth=0.8)
    axis.set_title(name)
    axis.set_xlabel("step")
    axis.set_ylabel("loss")
