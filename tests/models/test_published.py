"""Published weights: the loaded model against the authors' formulas, written out in plain PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad, unfold

from convexreg import ConvexRegularizer, ModelFileError
from convexreg.models.published import load_published

SIGMA = 10 / 255
Weights = dict[str, Tensor]


def _kernel(*shape: int) -> Tensor:
    return torch.randn(*shape) / shape[-1]


def _zero_mean(kernel: Tensor) -> Tensor:
    return kernel - kernel.mean((1, 2, 3), keepdim=True)


def _responses(x: Tensor, kernels: list[Tensor]) -> Tensor:
    for kernel in kernels:
        x = conv2d(x, kernel.double(), padding=kernel.shape[-1] // 2)
    return x


def _fourier_norm(kernels: list[Tensor]) -> Tensor:
    """Norm of the chain, from the impulse response, as the authors compute it."""
    reach = sum(kernel.shape[-1] // 2 for kernel in kernels)
    impulse = torch.zeros(1, 1, 4 * reach + 1, 4 * reach + 1, dtype=torch.float64)
    impulse[0, 0, 2 * reach, 2 * reach] = 1
    response = _responses(impulse, kernels)
    return torch.fft.fft2(response, s=(256, 256)).abs().square().sum(1).max().sqrt()


def _integral(u: Tensor, values: Tensor, limit: float) -> Tensor:
    """Integral from zero to `u` of the linear spline through `values`, constant outside the knots.

    The spline is `v_0 + sum_k a_k max(t - t_k, 0)` with `a_k` the changes of slope.
    """
    knots = torch.linspace(-limit, limit, values.numel(), dtype=torch.float64)
    slopes = values.double().diff() / (knots[1] - knots[0])
    changes = pad(slopes, (1, 1)).diff()

    def antiderivative(t: Tensor) -> Tensor:
        ramps = (t.unsqueeze(-1) - knots).clamp_min(0)
        return values[0] * t + (changes * ramps.square() / 2).sum(-1)

    return antiderivative(u) - antiderivative(torch.zeros_like(u))


def _multi_noise(concave: bool) -> Weights:
    line = torch.linspace(-0.1, 0.1, 21)
    return {
        "conv_layer.conv_layers.0.parametrizations.weight.original": _kernel(2, 1, 3, 3),
        "conv_layer.conv_layers.1.weight": _kernel(3, 2, 3, 3),
        "conv_layer.conv_layers.2.weight": _kernel(4, 3, 3, 3),
        "activation_cvx.coefficients": (line * 0.3 + 0.01 * torch.randn(21)).unsqueeze(0),
        "activation_ccv.coefficients": (
            line + (0.005 * torch.randn(21) if concave else 0)
        ).unsqueeze(0),
        "mu_": torch.tensor(0.7),
        "spline_scaling.coefficients": torch.randn(4, 11) * 0.2,
    }


def _multi_noise_energy(weights: Weights, x: Tensor) -> Tensor:
    kernels = [
        _zero_mean(weights["conv_layer.conv_layers.0.parametrizations.weight.original"]),
        weights["conv_layer.conv_layers.1.weight"],
        weights["conv_layer.conv_layers.2.weight"],
    ]
    u = _responses(x, kernels) / _fourier_norm(kernels)

    def projected(name: str) -> Tensor:
        knots = weights[f"activation_{name}.coefficients"][0].double()
        slopes = (knots.diff() / 0.01).clamp(0, 1)
        slopes[0] = slopes[-1] = 0
        line = pad(slopes.cumsum(0) * 0.01, (1, 0))
        return (line - line.flip(0)) / 2

    values = weights["mu_"].double().exp() * projected("cvx")
    line = torch.linspace(-0.1, 0.1, 21)
    if not torch.allclose(weights["activation_ccv.coefficients"][0], line):
        values = values - projected("ccv")
    level = 255 * SIGMA
    left = int(level // 3)
    table = weights["spline_scaling.coefficients"].double()
    spline = torch.lerp(table[:, left], table[:, left + 1], level / 3 - left)
    scale = (spline.exp() / (level + 1e-5)).view(1, -1, 1, 1)
    return (_integral(scale * u, values, 0.1) / scale**2).sum()


def _one_level() -> Weights:
    return {
        "conv_layer.conv_layers.0.parametrizations.weight.original": _kernel(3, 1, 5, 5),
        "conv_layer.conv_layers.1.parametrizations.weight.original": _kernel(4, 3, 5, 5),
        "activation.coefficients_vect": torch.randn(4 * 11) * 0.01,
        "lmbd": torch.tensor(8.0),
        "mu": torch.tensor(2.0),
        "L": torch.tensor(1.0),
    }


def _one_level_energy(weights: Weights, x: Tensor) -> Tensor:
    kernels = [
        _zero_mean(weights[f"conv_layer.conv_layers.{stage}.parametrizations.weight.original"])
        for stage in (0, 1)
    ]
    u = 2 * _responses(x, kernels)
    rise = weights["activation.coefficients_vect"].view(4, 11).double().diff(dim=1).clamp_min(0)
    rise[:, 0] = rise[:, -1] = 0
    values = pad(rise.cumsum(1), (1, 0))
    values = values - values[:, 5:6]
    return (8 / 2) * sum(
        (_integral(u[:, channel], values[channel], 0.1).sum() for channel in range(4)),
        torch.zeros((), dtype=torch.float64),
    )


def _huber() -> Weights:
    return {
        "regularizer.filters.0.parametrizations.weight.original": _kernel(2, 1, 3, 3),
        "regularizer.filters.1.weight": _kernel(3, 2, 3, 3),
        "regularizer.filters.2.weight": _kernel(4, 3, 3, 3),
        "regularizer.scaling": torch.randn(1, 4, 1, 1),
        "regularizer.beta": torch.tensor(1.5),
        "alpha": torch.tensor(0.4),
        "scale": torch.tensor(-0.3),
    }


def _huber_energy(weights: Weights, x: Tensor) -> Tensor:
    kernels = [
        _zero_mean(weights["regularizer.filters.0.parametrizations.weight.original"]),
        weights["regularizer.filters.1.weight"],
        weights["regularizer.filters.2.weight"],
    ]
    outer, inner, beta = (weights[key].double() for key in ("alpha", "scale", "regularizer.beta"))
    scaling = weights["regularizer.scaling"].double()
    u = _responses(inner.exp() * x, kernels) / _fourier_norm(kernels) * scaling.exp()
    t = beta.exp() * u
    smooth = t.square().clamp(0, 1) / 2 + t.abs().clamp_min(1) - 1
    return (outer - 2 * inner).exp() * (smooth * (-beta - 2 * scaling).exp()).sum()


def _icnn() -> Weights:
    return {
        "regularizer.icnn.wx.parametrizations.weight.original": _kernel(3, 1, 5, 5),
        "regularizer.icnn.wx.bias": torch.randn(3) * 0.1,
        "regularizer.icnn.wz.weight": _kernel(4, 3, 3, 3),
        "regularizer.icnn.wz.bias": torch.randn(4) * 0.1,
        "regularizer.icnn.scaling": torch.randn(1, 4, 1, 1),
        "regularizer.icnn.smoothing": torch.tensor(-1.0),
        "alpha": torch.tensor(0.4),
        "scale": torch.tensor(-0.3),
    }


def _icnn_energy(weights: Weights, x: Tensor) -> Tensor:
    part = {key.removeprefix("regularizer.icnn."): value.double() for key, value in weights.items()}
    smooth = part["smoothing"].exp()

    def unit(t: Tensor) -> Tensor:
        below = t.clamp(torch.zeros_like(smooth), smooth).square() / (2 * smooth)
        return below + t.clamp_min(smooth) - smooth

    first = _zero_mean(part["wx.parametrizations.weight.original"])
    hidden = conv2d(part["scale"].exp() * x, first, part["wx.bias"], padding=2)
    top = conv2d(unit(hidden), part["wz.weight"].clamp_min(0), part["wz.bias"], padding=1)
    total = (unit(top) * part["scaling"].exp()).sum()
    return (part["alpha"] - 2 * part["scale"]).exp() * total


CPR_SETTINGS = {"prox_type": "l1norm", "groupsize": 2, "lambda_init": 0.02, "order": 1.8}


def _cpr() -> Weights:
    return {
        "atoms": _kernel(7, 1, 3, 3) / 100,
        "free_atoms": _kernel(3, 1, 3, 3) / 100,
        "beta": torch.tensor(1.3),
        "prox.scaling_lmbda": torch.randn(1, 7, 1, 1) * 0.3,
    }


def _cpr_energy(weights: Weights, x: Tensor) -> Tensor:
    """With all pixels of every patch, the authors' orthonormalisation and their iteration on the codes."""
    free, atoms = (_zero_mean(weights[key].double()).flatten(1) for key in ("free_atoms", "atoms"))
    free = free / torch.linalg.matrix_norm(free, 2)
    for _ in range(60):
        free = 1.5 * free - 0.5 * free @ free.T @ free
    beta, ones = weights["beta"].double(), torch.ones(9, 9, dtype=torch.float64) / 9
    atoms = atoms - atoms @ free.T @ free
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    atoms = (0.99 / beta).sqrt() * atoms / torch.linalg.matrix_norm(atoms, 2)
    unfolded = unfold(pad(x, (1, 1, 1, 1), mode="circular"), 3)[0]
    patches = (torch.eye(9, dtype=torch.float64) - free.T @ free - ones) @ unfolded
    height, width = x.shape[-2:]
    limits = 0.02 * (-weights["prox.scaling_lmbda"].double()).exp()[0]

    def pooled(codes: Tensor) -> Tensor:
        """Norm over blocks of 2 x 2 pixels, at all of them."""
        squares = pad(
            codes.detach().square().unflatten(1, (height, width)), (0, width % 2, 0, height % 2)
        )
        norms = 2 * avg_pool2d(squares, 2).sqrt()
        return norms.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width]

    codes = torch.zeros(7, height * width, dtype=torch.float64)
    for _ in range(3000):
        codes = codes + beta * atoms @ (patches.detach() - atoms.T @ codes)
        size = pooled(codes)
        kept = (1 - limits / size.clamp_min(1e-300)).clamp_min(0)
        codes = kept.flatten(1) * codes
    norms = pooled(codes)[:, ::2, ::2]
    return beta / 2 * (patches - atoms.T @ codes).square().sum() + (limits * norms).sum()


@dataclass(frozen=True)
class PublishedCase:
    weights: Callable[[], Weights]
    energy: Callable[[Weights, Tensor], Tensor]
    convex: bool = True
    metadata: dict[str, str] | None = None


CASES = {
    "crr-multi-noise": PublishedCase(lambda: _multi_noise(False), _multi_noise_energy),
    "wcrr-multi-noise": PublishedCase(
        lambda: _multi_noise(True), _multi_noise_energy, convex=False
    ),
    "crr-one-level": PublishedCase(_one_level, _one_level_energy),
    "crr-huber": PublishedCase(_huber, _huber_energy),
    "icnn": PublishedCase(_icnn, _icnn_energy),
    "cpr": PublishedCase(
        _cpr, _cpr_energy, metadata={"config": json.dumps({"prox": CPR_SETTINGS})}
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_matches_the_authors_formula(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    weights = case.weights()
    path = tmp_path / "weights.safetensors"
    save_file(weights, path, case.metadata)
    model = load_published(path).double()
    x = torch.rand(1, 1, 9, 8, dtype=torch.float64, requires_grad=True)
    reference = torch.zeros_like(x).requires_grad_()
    difference = case.energy(weights, x) - case.energy(weights, reference)
    (expected,) = torch.autograd.grad(difference, x)
    energy, grad = model.value_and_grad(x.detach(), SIGMA)
    start = model.energy(reference.detach(), SIGMA)
    torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(energy - start, difference.detach().reshape(1), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_convexity_and_bound(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = tmp_path / "weights.safetensors"
    save_file(case.weights(), path, case.metadata)
    model = load_published(path).double()
    assert isinstance(model, ConvexRegularizer) == case.convex
    x = torch.randn(1, 1, 6, 5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: model.grad(z, SIGMA).sum(0), x)
    matrix = jacobian.reshape(30, 30)
    torch.testing.assert_close(matrix, matrix.mT, atol=1e-10, rtol=0)
    eigenvalues = torch.linalg.eigvalsh(matrix)
    bound = float(model.lipschitz((6, 5), SIGMA))
    assert eigenvalues[-1] <= bound
    modulus = float(model.term(SIGMA).strong_convexity(x).detach())
    assert modulus == (0 if case.convex else -bound)
    assert eigenvalues[0] >= modulus - 1e-10


def test_files_that_are_not_published_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no file"):
        load_published(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ModelFileError, match="not a readable safetensors file"):
        load_published(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="no model known here"):
        load_published(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "no settings of its penalty"),
        ("{", "no settings of its penalty"),
        ('{"prox": {"prox_type": "l1norm"}}', "no settings of its penalty"),
        (json.dumps({"prox": {**CPR_SETTINGS, "prox_type": "l0norm"}}), "is not convex"),
    ],
)
def test_patch_regularizers_need_their_settings(
    config: str | None, message: str, tmp_path: Path
) -> None:
    metadata = None if config is None else {"config": config}
    save_file(_cpr(), tmp_path / "weights.safetensors", metadata)
    with pytest.raises(ModelFileError, match=message):
        load_published(tmp_path / "weights.safetensors")
