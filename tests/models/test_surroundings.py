"""What a call gives depends on its arguments: not on autocast, default types, default devices or threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from torch import Tensor

from convexreg import AdaptiveRegularizer, ConvexRegularizer, load_model
from convexreg.models.config import ARCHITECTURES, ModelConfig
from convexreg.models.files import pretrained_names
from tests.networks.table import GEOMETRIES, NETWORKS, SIGMA, NetworkCase
from tests.tables import POTENTIALS, PotentialCase, over
from tests.test_regularizer import REGULARIZERS, Build, images


@contextmanager
def default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device() -> Iterator[None]:
    before = torch.get_default_device()
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None if before.type == "cpu" else before)


Surroundings = Callable[[], AbstractContextManager[None]]
SURROUNDINGS: dict[str, Surroundings] = {
    "autocast-bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast-float16": lambda: torch.autocast("cpu", torch.float16),
    "default-dtype": default_dtype,
    "default-device": default_device,
}


def results(regularizer: ConvexRegularizer, x: Tensor) -> list[Tensor]:
    """All that a regularizer offers, with derivatives by the parameters and in the image."""
    size = (x.shape[2], x.shape[3])
    found = [
        regularizer.energy(x, 0.1),
        regularizer.grad(x, 0.1),
        *regularizer.value_and_grad(x, 0.1),
        regularizer.lipschitz(None, 0.1),
        regularizer.lipschitz(size, 0.1),
        regularizer.strong_convexity(),
    ]
    model = regularizer.curvature(x, 0.1)
    if model is not None:
        found += [model.symbol, model.diagonal, regularizer.magnitudes(x, 0.1)]
    term = regularizer.term(0.1)
    found += [term.lipschitz(x), term.strong_convexity(x)]
    point = x.clone().requires_grad_()
    grad = regularizer.grad(point, 0.1)
    parameters = list(regularizer.parameters())
    found += torch.autograd.grad(grad, (point, *parameters), x, allow_unused=True)
    return found


@over("surroundings", SURROUNDINGS)
@over("build", REGULARIZERS)
def test_regularizers(build: Build, surroundings: Surroundings) -> None:
    regularizer = build().float().requires_grad_()
    for x in (images(regularizer, 2), torch.rand(2, 3, 7, 8)):
        expected = results(regularizer, x.float())
        with surroundings():
            within = results(regularizer, x.float())
        for one, other in zip(within, expected, strict=True):
            if other is None:
                assert one is None
                continue
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


@over("surroundings", SURROUNDINGS)
@pytest.mark.parametrize("name", pretrained_names())
def test_loading(name: str, surroundings: Surroundings) -> None:
    expected = load_model(name)
    with surroundings():
        model = load_model(name)
    state, other = model.regularizer.state_dict(), expected.regularizer.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[key], other[key]) for key in state)
    x = torch.rand(1, 1, 20, 20)
    if isinstance(expected.regularizer, AdaptiveRegularizer):
        assert isinstance(model.regularizer, AdaptiveRegularizer)
        weights = expected.regularizer.weights(x, 0.1)
        with surroundings():
            assert torch.equal(model.regularizer.weights(x, 0.1), weights)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fresh_models_are_float32(architecture) -> None:
    """Whatever the default type, and from the same random numbers."""
    config = ModelConfig(architecture, (1, 2, 4), (3, 3), adaptive=True, weight_width=4)
    expected = config.build_adaptive().state_dict()
    torch.manual_seed(0)
    with default_dtype():
        state = config.build_adaptive().state_dict()
    for key, tensor in state.items():
        assert tensor.dtype == torch.float32, key
        torch.testing.assert_close(tensor, expected[key])


@over("case", NETWORKS)
def test_networks_are_float32(case: NetworkCase) -> None:
    operator, shape = GEOMETRIES["dense"]
    with default_dtype():
        network = case.build(operator)
        ours = not type(network).__module__.startswith("benchmarks")
        if ours:
            assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    if ours:
        x = torch.randn(2, *shape)
        expected = [network(x, SIGMA), network.potential(x, SIGMA), network.lipschitz(None, SIGMA)]
        for surroundings in (default_dtype, default_device):
            with surroundings():
                within = [
                    network(x, SIGMA),
                    network.potential(x, SIGMA),
                    network.lipschitz(None, SIGMA),
                ]
            for one, other in zip(within, expected, strict=True):
                assert one.dtype == other.dtype
                assert torch.equal(one, other)


@over("surroundings", {name: SURROUNDINGS[name] for name in ("default-dtype", "default-device")})
@over("case", POTENTIALS)
def test_potentials(case: PotentialCase, surroundings: Surroundings) -> None:
    potential = case.build()
    u = torch.randn(2, case.channels, 5, 6)
    weight = torch.rand(2, case.groups, 1, 1)

    def values() -> list[Tensor]:
        return [
            *potential.value_and_grad(u, weight),
            potential.curvature(u, weight),
            potential.curvature_bound(case.channels),
            potential.curvature_bound(case.channels, weight),
        ]

    expected = values()
    with surroundings():
        within = values()
    for one, other in zip(within, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
