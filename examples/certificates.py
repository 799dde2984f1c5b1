"""
What a certificate says, and what it does not
=============================================

A reconstruction is the minimiser of an objective. The certificate of `convexreg.reconstruct` bounds how far
the image that came back is above that minimum: a theorem about the objective, evaluated in float64.
"""

import deepinv
import matplotlib.pyplot as plt
import torch
from skimage import data
from torch import Tensor

from convexreg import ConvexRegularizer, load_model, reconstruct
from convexreg.solvers import (
    FISTA,
    Objective,
    Proximity,
    QuasiNewton,
    SolverError,
    Status,
    Sum,
    minimise,
)

SIZE = 96
SIGMA = 0.1

# %%
# What it says
# ------------
#
# The gap bounds `F(x) - F*`, and with it the distance to the minimiser. Here is the bound beside the
# truth: the distance to a minimiser that was computed much more accurately.

photograph = torch.from_numpy(data.camera()).double() / 255
clean = photograph[60 : 60 + SIZE, 200 : 200 + SIZE][None, None]
noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
noisy = clean + SIGMA * noise
denoising = deepinv.physics.Denoising()
options = {"sigma": SIGMA, "regularizer": "mgradnet-m"}
accurate = reconstruct(noisy, denoising, gap_tol=1e-10, **options)


def psnr(image: Tensor) -> float:
    return float(-10 * (image - clean).square().mean().log10())


pixels = SIZE**2
for tolerance in (1e-1, 1e-2, 1e-3, 1e-4):
    result = reconstruct(noisy, denoising, gap_tol=tolerance, **options)
    distance = float((result.image - accurate.image).norm()) / pixels**0.5
    proven = float(result.certificate.distance) / pixels**0.5
    print(
        f"gap <= {float(result.certificate.relative_gap):.1e}: pixels are off by {distance:.1e} (rms), "
        f"proven {proven:.1e}; {psnr(result.image):.3f} dB"
    )
    assert distance <= proven

# %%
# A result keeps how it got there. Each dot is an iteration, and the gap is proven at every one of them: the
# solve could have been stopped anywhere, with an image and a bound.

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
axes = accurate.plot(axes)

# %%
# What it does not say
# --------------------
#
# *That the image is right.* Tell it that there is hardly any noise, or that the blur was another one: the
# minimiser of the wrong objective is certified just as well. The only thing that has changed is the error
# that nobody can certify.

blur = deepinv.physics.Blur(
    deepinv.physics.functional.gaussian_blur(sigma=(2.0, 2.0)), padding="circular"
).double()
wrong = deepinv.physics.Blur(
    deepinv.physics.functional.gaussian_blur(sigma=(2.6, 2.6)), padding="circular"
).double()
blurred = blur.A(clean) + 0.02 * noise
attempts = {
    "as it was": reconstruct(blurred, blur, sigma=0.02),
    "noise taken for a tenth": reconstruct(blurred, blur, sigma=0.002),
    "blur taken for another": reconstruct(blurred, wrong, sigma=0.02),
}
figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
for axis, (name, attempt) in zip(axes, {"measured": None, **attempts}.items(), strict=True):
    image = blurred if attempt is None else attempt.image
    axis.imshow(image[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_title(f"{name}: {psnr(image):.2f} dB")
    axis.axis("off")
    if attempt is not None:
        gap = float(attempt.certificate.relative_gap)
        print(f"{name}: certified to {gap:.1e}, {psnr(image):.2f} dB")

# %%
# *That it is tight.* Off denoising the proven gap is usually many times the true one; it is never below.
#
# *That both rounds of an adaptive model minimise one function.* The certificate of such a result is that of
# its last round, given the weights: see :doc:`adaptive_weights`.
#
# *What the noise could have hidden.* That is a question for the posterior: see :doc:`uncertainty`.
#
# When a solve fails
# ------------------
#
# Bounds that are proven can be checked. An objective that contradicts what is stated of it, here one that
# lies about its Lipschitz constant or becomes NaN, ends with a status that says so. What cannot be used
# raises; what was not finished in time comes back with the certificate that it has reached.


class Faulty(Objective):
    """Another objective, with a Lipschitz constant understated or values that become NaN."""

    def __init__(self, inner: Objective, *, understate: float = 1.0, good: int = 1000) -> None:
        self.inner, self.understate, self.good = inner, understate, good

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = self.inner.value_and_grad(x)
        self.good -= 1
        return (value, grad) if self.good >= 0 else (value * float("nan"), grad)

    def lipschitz(self, x: Tensor) -> Tensor:
        return self.inner.lipschitz(x) / self.understate

    def strong_convexity(self, x: Tensor) -> Tensor:
        return self.inner.strong_convexity(x)


model = load_model("mgradnet-m").regularizer
assert isinstance(model, ConvexRegularizer)
start = noisy.float()
objective = Sum([Proximity(start), model.term(SIGMA)], [1.0, 1.0])
wrong_constant, becomes_nan = Faulty(objective, understate=100), Faulty(objective, good=5)
runs = {
    "as it should be": (objective, QuasiNewton(), 1e-4, 1000),
    "Lipschitz constant 100 times too small": (wrong_constant, FISTA(), 1e-4, 1000),
    "NaN from the sixth evaluation on": (becomes_nan, FISTA(), 1e-4, 1000),
    "too few iterations": (objective, QuasiNewton(), 1e-4, 5),
    "a tolerance below float32 rounding": (objective, QuasiNewton(), 1e-16, 1000),
}
endings = {}
for title, (problem, solver, tolerance, iterations) in runs.items():
    try:
        solution = minimise(problem, start, solver, gap_tol=tolerance, max_iter=iterations)
        raised = ""
    except SolverError as error:
        solution, raised = error.solution, f" (raised {type(error).__name__})"
    status = endings[title] = Status(int(solution.status[0]))
    print(f"{title}: {status.name}{raised}")
    print(f"  {status.message}.")
    print(f"  certified relative gap {float(solution.certificate.relative_gap[0]):.1e}")
