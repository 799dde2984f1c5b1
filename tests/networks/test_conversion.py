"""Networks in another floating-point type: the same function of the same tensors, sharing what stays."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from convexreg import ConvexRegularizer, ModelConfig
from convexreg.networks.base import converted
from convexreg.networks.conditioning import SpatialWeights
from tests.networks.table import NETWORKS, PAIRS, SIGMA, Build, NetworkCase
from tests.tables import over
from tests.test_regularizer import REGULARIZERS, SIGMAS, configured, images

CPU = torch.device("cpu")
Pair = tuple[NetworkCase, Build, tuple[int, ...]]
ON_IMAGES = {name: pair for name, pair in PAIRS.items() if name.removesuffix("-zero") in NETWORKS}


@over("pair", ON_IMAGES)
def test_values_gradients_and_the_original(pair: Pair) -> None:
    """What `.double()` makes of a copy; gradients reach the original, which stays as it is."""
    case, operator, shape = pair
    network = case.build(operator)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    twin = converted(network, CPU, torch.float64)
    assert type(twin) is type(network)
    expected = copy.deepcopy(network).double()
    x = torch.randn(2, *shape, dtype=torch.float64)
    assert torch.equal(twin(x, SIGMA), expected(x, SIGMA))
    assert torch.equal(twin.potential(x, SIGMA), expected.potential(x, SIGMA))
    torch.testing.assert_close(twin.lipschitz(None, SIGMA), expected.lipschitz(None, SIGMA))
    for module in (twin, expected):
        module(x, SIGMA).square().sum().backward()
    for (name, parameter), other in zip(
        network.named_parameters(), expected.parameters(), strict=True
    ):
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, before[name])
        if other.grad is not None:
            assert parameter.grad is not None, name
            torch.testing.assert_close(parameter.grad, other.grad.float())
    network.zero_grad()
    assert network(x.float(), SIGMA).dtype == torch.float32


@over("build", REGULARIZERS)
def test_regularizers(build) -> None:
    regularizer = build().float()
    twin = converted(regularizer, CPU, torch.float64)
    x = images(regularizer, 2)
    assert torch.equal(twin.grad(x, 0.1), copy.deepcopy(regularizer).double().grad(x, 0.1))
    assert twin.name == regularizer.name
    assert converted(twin, CPU, torch.float64) is twin
    assert converted(regularizer, CPU, torch.float32) is regularizer


def test_only_what_changes_is_copied() -> None:
    regularizer = configured()()  # float64
    field = torch.rand(2, 3, 7, 8, requires_grad=True)  # float32
    weighted = regularizer.with_weights(field * 2)
    assert converted(weighted, CPU, torch.float64) is weighted
    twin = converted(weighted, CPU, torch.float32)
    assert twin is not weighted
    ours, theirs = (
        next(m for m in module.modules() if isinstance(m, SpatialWeights))
        for module in (twin, weighted)
    )
    assert ours.field is theirs.field  # spatial weights are cast where they are used
    x = images(regularizer, 2)
    for module, point in ((twin, x.float()), (weighted, x)):
        field.grad = None
        module.energy(point, SIGMAS[:2].to(point)).sum().backward(retain_graph=True)
        assert field.grad is not None
        assert field.grad.abs().sum() > 0


def test_modes_and_shared_parts_are_kept() -> None:
    shared = nn.Linear(3, 3)
    shared.register_buffer("count", torch.tensor(3))
    module = nn.Sequential(shared, nn.ModuleList([shared, nn.Linear(3, 3).eval()]))
    module[0].weight = module[1][1].weight
    twin = converted(module, CPU, torch.float64)
    assert twin[0] is twin[1][0]
    assert twin[0].weight is twin[1][1].weight
    assert twin[0].count is shared.count
    assert [m.training for m in twin.modules()] == [m.training for m in module.modules()]


def test_adaptive_models_are_converted_as_well() -> None:
    config = ModelConfig(channels=(1, 3, 6), kernel_sizes=(3, 3), adaptive=True, weight_width=4)
    model = config.build_adaptive().eval()
    twin = converted(model, CPU, torch.float64)
    x: Tensor = torch.rand(1, 1, 9, 9, dtype=torch.float64)
    given = twin.given(x, 0.1)
    assert isinstance(given, ConvexRegularizer)
    given.energy(x, 0.1).sum().backward()
    assert model.network.layers[0].weight.grad is not None
    with pytest.raises(ValueError, match=r"images are torch\.float64"):
        model.given(x, 0.1)
