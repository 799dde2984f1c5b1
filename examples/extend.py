"""
Add a potential, a physics, a solver
====================================

Three small classes, each with what has to be proven of it, and each used at once. Nothing has to be
registered: what fits the interface fits everywhere.
"""

from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import torch
from skimage import data
from torch import Tensor

from convexreg import ConvexRegularizer, load_model, reconstruct
from convexreg.networks.conditioning import NoiseScaling
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution
from convexreg.networks.potentials import ElementwisePotential
from convexreg.solvers import (
    Box,
    Objective,
    OperatorBounds,
    Proximity,
    QuasiNewton,
    Solver,
    State,
    Sum,
    minimise,
)
from convexreg.solvers.certificates import certificate_after_step

SIZE = 96
SIGMA = 25 / 255

# %%
# A potential
# -----------
#
# `psi(u) = |u| - log(1 + |u|)` is convex: its derivative `u / (1 + |u|)` increases, at most at rate one, at
# zero. The three methods say just that, and `scalar_curvature_bound` is what step sizes and certificates
# rest on, so it has to be a theorem: here `psi''(u) = (1 + |u|)^-2 <= 1`.


class Logarithmic(ElementwisePotential):
    """`|u| - log(1 + |u|)`."""

    nonnegative = True

    def density(self, u: Tensor) -> Tensor:
        return u.abs() - u.abs().log1p()

    def activation(self, u: Tensor) -> Tensor:
        return u / (1 + u.abs())

    def scalar_curvature_bound(self) -> float:
        return 1.0


# %%
# Under two filters, differences to the right and downwards, it is a regularizer: a rounded total variation.
# `NoiseScaling` gives it a threshold and a strength for every noise level; both could be learned
# (``convexreg train``), here they are set by hand. Scales cannot break convexity.

operator = Convolution((1, 2), (3,))
conditioning = NoiseScaling(2, 2, sigma_min=1 / 255, sigma_max=50 / 255, relative_slope=1.2)
with torch.no_grad():
    operator.kernels[0].zero_()
    operator.kernels[0][0, 0, 1, 1:] = torch.tensor([-1.0, 1.0])
    operator.kernels[0][1, 0, 1:, 1] = torch.tensor([-1.0, 1.0])
    conditioning.log_threshold.sub_(2.0)
network = GradientModule(operator, Logarithmic(), bias=False, conditioning=conditioning)
mine = ConvexRegularizer(network, sigma_range=(1 / 255, 50 / 255), name="rounded TV")

# %%
# Its proven Lipschitz constant against the truth, on a grid small enough for dense linear algebra, and at a
# constant image, where it bends most. A test of a new class is a row in the table of such checks
# (``tests/tables.py``).

point = torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64)
exact = mine.double()
hessian = torch.autograd.functional.jacobian(lambda x: exact.grad(x, SIGMA), point).reshape(64, 64)
eigenvalues = torch.linalg.eigvalsh(hessian)
bound = float(exact.lipschitz((8, 8), SIGMA).detach())
print(f"asymmetry {float((hessian - hessian.T).abs().max()):.1e}")
print(
    f"eigenvalues {float(eigenvalues[0]):.2e} to {float(eigenvalues[-1]):.2f}, proven {bound:.2f}"
)
assert eigenvalues[0] > -1e-10
assert eigenvalues[-1] <= bound
mine = mine.float()

# %%
# A physics
# ---------
#
# Any object with ``A`` and its exact adjoint will do. This one is a sensor whose pixels are twice as high as
# wide: it sees means of two rows. Measurements are checked against the adjoint before anything is solved.
# ``bounds`` is optional: the default solver searches for its steps, the others need it.


class TallPixels:
    """Means of pairs of rows: `A A^T = I / 2`, so that `|A|^2 = 1/2`."""

    bounds = OperatorBounds(largest=0.5, smallest=0.0, proof="A A^T = I / 2")

    def A(self, x: Tensor) -> Tensor:
        return (x[..., ::2, :] + x[..., 1::2, :]) / 2

    def A_adjoint(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(2, dim=-2) / 2


photograph = torch.from_numpy(data.camera()).float() / 255
clean = photograph[60 : 60 + SIZE, 200 : 200 + SIZE][None, None]
physics = TallPixels()
generator = torch.Generator().manual_seed(0)
y = physics.A(clean) + 0.02 * torch.randn(1, 1, SIZE // 2, SIZE, generator=generator)


def psnr(image: Tensor) -> float:
    return float(-10 * (image - clean).square().mean().log10())


results = {
    name: reconstruct(y, physics, sigma=0.02, regularizer=regularizer)
    for name, regularizer in {"rounded TV": mine, "mgradnet-m": "mgradnet-m"}.items()
}
repeated = y.repeat_interleave(2, dim=-2)
scores = {"rows repeated": psnr(repeated)}
scores |= {name: psnr(result.image) for name, result in results.items()}
for name, score in scores.items():
    print(f"{name}: {score:.2f} dB")

# %%
# A solver
# --------
#
# A solver holds settings, its state holds progress, and `convexreg.solvers.minimise` does the rest: stopping
# rules, time limits, failures, certificates, batches. This is Nesterov's method with constant momentum for
# strongly convex functions (Nesterov 2018, scheme 2.2.22). A step ends at `y - grad F(y) / L`, and
# `certificate_after_step` turns value and gradient at `y` into a proven gap there.


@dataclass(frozen=True)
class MomentumState(State):
    """:ivar ahead: where the next gradient is taken."""

    ahead: Tensor


@dataclass(frozen=True)
class ConstantMomentum(Solver[MomentumState]):
    """`x+ = y - grad F(y) / L`, `y+ = x+ + beta (x+ - x)` with `beta = (1 - r) / (1 + r)`, `r^2 = mu / L`."""

    def init(self, objective: Objective, x: Tensor, box: Box) -> MomentumState:
        if not box.everything:
            raise ValueError("constant momentum knows no box; use FISTA")
        unknown = torch.full((len(x),), torch.inf, dtype=torch.float64)
        return MomentumState(
            x=x,
            gap=unknown,
            lower=-unknown,
            stationarity=unknown,
            step_size=unknown,
            evaluations=torch.zeros_like(unknown),
            violated=torch.zeros(len(x), dtype=torch.bool),
            value=None,
            ahead=x,
        )

    def step(self, objective: Objective, state: MomentumState, box: Box) -> MomentumState:
        largest, mu = objective.lipschitz(state.x), objective.strong_convexity(state.x)
        value, grad = objective.value_and_grad(state.ahead)
        x = state.ahead - grad / largest.float()
        root = (mu / largest).sqrt().float()
        proven = certificate_after_step(value, grad, state.ahead, x, largest, mu, box)
        change = (x - state.x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
        return MomentumState(
            x=x,
            gap=proven.gap,
            lower=torch.maximum(state.lower, proven.lower),
            stationarity=grad.flatten(1).square().mean(1).sqrt().double(),
            step_size=change.double(),
            evaluations=state.evaluations + 1,
            violated=state.violated,
            value=None,
            ahead=x + (1 - root) / (1 + root) * (x - state.x),
        )


# %%
# On the denoising problem, beside the default solver.

noisy = clean + SIGMA * torch.randn(clean.shape, generator=generator)
convex = load_model("mgradnet-m").regularizer
assert isinstance(convex, ConvexRegularizer)
objective = Sum([Proximity(noisy), convex.term(SIGMA)], [1.0, 1.0])
solvers: list[Any] = [ConstantMomentum(), QuasiNewton()]
for solver in solvers:
    print(solver.description, minimise(objective, noisy, solver, gap_tol=1e-3, max_iter=300))

# %%

figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
shown = {"photograph": clean, "rows repeated": repeated}
shown |= {name: result.image for name, result in results.items()}
for axis, (name, image) in zip(axes, shown.items(), strict=True):
    axis.imshow(image[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_title(f"{name}, {scores[name]:.2f} dB" if name in scores else name)
    axis.axis("off")
