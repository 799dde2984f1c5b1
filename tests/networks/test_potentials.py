"""Potentials: gradients of their values, convex, and no more curved than they say."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from convexreg.networks.potentials import (
    ElementwisePotential,
    LinearSpline,
    LogCosh,
    LogSumExp,
    MaxEnvelope,
    PooledNorm,
    spline_roughness,
)
from tests.oracles import gradient, jacobian
from tests.tables import POTENTIALS, PotentialCase, over, perturbed

DRAWS = 5
SCALES = (0.02, 1.0, 30.0)
IMAGE = (4, 3)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def points(case: PotentialCase, *image: int) -> list[Tensor]:
    """One input `(1, channels, ...)` for every scale."""
    return [scale * random(1, case.channels, *image) for scale in SCALES]


def weights(case: PotentialCase, *image: int) -> list[Tensor | None]:
    """No weight, one per term, and one per term and position."""
    ones = [1] * len(image)
    per_term = torch.rand(1, case.groups, *ones, dtype=torch.float64)
    per_position = torch.rand(1, case.groups, *image, dtype=torch.float64)
    return [None, per_term, per_position] if image else [None, per_term]


def scenes(case: PotentialCase) -> list[tuple[Tensor, Tensor | None]]:
    """Vectors and images of every scale, with every kind of weight."""
    return [
        (u, weight)
        for image in ((), IMAGE)
        for u in points(case, *image)
        for weight in weights(case, *image)
    ]


@over("case", POTENTIALS)
def test_gradient_is_the_derivative_of_the_value(case: PotentialCase) -> None:
    for _ in range(DRAWS):
        potential = perturbed(case.build())
        for u, weight in scenes(case):
            value, grad = potential.value_and_grad(u, weight)
            assert value.shape == u.shape[:1] + u.shape[2:]
            torch.testing.assert_close(value, potential.value(u, weight), rtol=1e-14, atol=1e-14)
            torch.testing.assert_close(grad, potential.grad(u, weight), rtol=1e-13, atol=1e-13)
            derivative = gradient(partial(potential.value, weight=weight), u)
            torch.testing.assert_close(grad, derivative, rtol=1e-11, atol=1e-11)


@over("case", POTENTIALS)
def test_curvature_lies_between_zero_and_its_bound(case: PotentialCase) -> None:
    """`0 <= Hessian <= Diag(curvature_bound)`, by dense eigenvalues."""
    for _ in range(DRAWS):
        potential = perturbed(case.build())
        assert potential.groups(case.channels) == case.groups
        for u, weight in scenes(case):
            hessian = jacobian(partial(potential.grad, weight=weight), u)
            assert (hessian - hessian.T).abs().max() <= 1e-12
            bound = potential.curvature_bound(case.channels, weight)
            assert bound.shape == ((case.channels,) if weight is None else (1, case.channels))
            spread = bound.flatten().repeat_interleave(u[0, 0].numel())
            slack = torch.linalg.eigvalsh(torch.diag(spread) - hessian)[0]
            assert slack >= -1e-12 * (1 + spread.max())
            if potential.convex:
                assert torch.linalg.eigvalsh(hessian)[0] >= -1e-12


@over("case", POTENTIALS)
def test_curvature_bound_is_nearly_attained(case: PotentialCase) -> None:
    """A bound far from what is met costs iterations."""
    potential = perturbed(case.build(), 0.0)
    image = () if case.local else (5, 5)
    best = 0.0
    for scale in (0.0, 0.03, 0.3, 1.0, 30.0):
        for _ in range(8):
            shape = (1, case.channels, *image)
            for u in (random(*shape), torch.randint(-1, 2, shape).double()):
                hessian = jacobian(potential.grad, scale * u)
                best = max(best, float(torch.linalg.eigvalsh(hessian)[-1]))
    assert best >= case.attained * float(potential.curvature_bound(case.channels).max())


@over("case", POTENTIALS)
def test_curvature_model(case: PotentialCase) -> None:
    """The Hessian's diagonal, its negative entries replaced by zero."""
    potential = perturbed(case.build())
    for u, weight in scenes(case):
        model = potential.curvature(u, weight)
        assert model.shape == u.shape
        hessian = jacobian(partial(potential.grad, weight=weight), u)
        torch.testing.assert_close(model.flatten(), hessian.diagonal().clamp_min(0))


@over("case", POTENTIALS)
def test_nonnegative_where_claimed(case: PotentialCase) -> None:
    for _ in range(DRAWS):
        potential = perturbed(case.build())
        if potential.nonnegative:
            assert all((potential.value(u, weight) >= -1e-13).all() for u, weight in scenes(case))


def test_log_sum_exp_can_be_negative() -> None:
    assert not LogSumExp().nonnegative
    assert not LogSumExp(symmetric=True, learned=True).nonnegative
    assert LogSumExp(symmetric=True).nonnegative
    assert (LogSumExp().value(torch.full((1, 3), -5.0)) < 0).all()


def test_max_envelope_is_the_envelope_of_the_largest() -> None:
    """`min_v |u - v|^2 / 2 + max |v|`, by search over `max |v|`: then `v` is `u`, clipped."""
    u = 2 * random(50, 4)
    levels = torch.linspace(0, 8, 80001, dtype=torch.float64)
    excess = (u.abs().unsqueeze(-1) - levels).clamp_min(0).square().sum(1) / 2 + levels
    torch.testing.assert_close(MaxEnvelope(4).value(u), excess.amin(1), rtol=0, atol=1e-7)


@over("case", POTENTIALS)
def test_weights_multiply_the_terms(case: PotentialCase) -> None:
    """Linear in the weights; a unit weight on one term at a time adds up to the whole."""
    potential = perturbed(case.build())
    for image in ((), IMAGE):
        u = random(2, case.channels, *image)
        ones = [1] * len(image)
        terms = [
            potential.value_and_grad(u, row.reshape(1, -1, *ones))
            for row in torch.eye(case.groups, dtype=torch.float64)
        ]
        value, grad = potential.value_and_grad(u)
        torch.testing.assert_close(sum(term[0] for term in terms), value)
        torch.testing.assert_close(sum(term[1] for term in terms), grad)
        weight = torch.rand(2, case.groups, *image, dtype=torch.float64)
        value, grad = potential.value_and_grad(u, weight)
        doubled_value, doubled_grad = potential.value_and_grad(u, 2 * weight)
        torch.testing.assert_close(doubled_value, 2 * value)
        torch.testing.assert_close(doubled_grad, 2 * grad)
        alone = [potential.value_and_grad(u[i : i + 1], weight[i : i + 1]) for i in (0, 1)]
        torch.testing.assert_close(torch.cat([item[0] for item in alone]), value)
        torch.testing.assert_close(torch.cat([item[1] for item in alone]), grad)


@over("case", {name: case for name, case in POTENTIALS.items() if case.local})
def test_every_pixel_is_a_vector(case: PotentialCase) -> None:
    potential = perturbed(case.build())
    u = random(2, case.channels, *IMAGE)
    weight = torch.rand(2, case.groups, *IMAGE, dtype=torch.float64)
    vectors = u.movedim(1, -1).reshape(-1, case.channels)
    rows = weight.movedim(1, -1).reshape(-1, case.groups)
    value, grad = potential.value_and_grad(vectors, rows)
    expected = grad.reshape(2, *IMAGE, case.channels).movedim(-1, 1)
    torch.testing.assert_close(potential.value(u, weight), value.reshape(2, *IMAGE))
    torch.testing.assert_close(potential.grad(u, weight), expected)


@pytest.mark.parametrize("learned", [False, True])
def test_pooling_reaches_as_far_as_its_window(learned: bool) -> None:
    potential = perturbed(PooledNorm(4, group_size=2, window=3, learned=learned))
    u = random(1, 4, 9, 9)
    moved = u.clone()
    moved[0, 1, 4, 4] += 1
    change = (potential.value(moved) - potential.value(u))[0] != 0
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[3:6, 3:6] = True
    assert torch.equal(change, expected)
    # constant channels pool to the same value as a vector, away from the border
    constant = random(1, 4)
    image = constant.reshape(1, 4, 1, 1).expand(1, 4, 7, 7)
    torch.testing.assert_close(potential.value(image)[0, 3, 3], potential.value(constant)[0])
    torch.testing.assert_close(potential.grad(image)[0, :, 3, 3], potential.grad(constant)[0])


@over("case", {n: c for n, c in POTENTIALS.items() if isinstance(c.build(), ElementwisePotential)})
def test_the_scalar_curvature_bound_bounds_the_activation(case: PotentialCase) -> None:
    """Difference quotients of the scalar activations never exceed the claimed bound."""
    for _ in range(DRAWS):
        potential = perturbed(case.build())
        u = torch.linspace(-40, 40, 20001, dtype=torch.float64)
        s = potential.activation(u.unsqueeze(1).expand(-1, case.channels))
        quotients = s.diff(dim=0) / (u[1] - u[0])
        bound = potential.curvature_bound(case.channels).double()
        assert (quotients.abs().amax(0) <= bound * (1 + 1e-9)).all()
        if potential.convex:
            assert (quotients >= -1e-9).all()


@pytest.mark.parametrize("monotone", [True, False])
def test_spline_is_continuous_zero_at_zero_and_saturates(monotone: bool) -> None:
    spline = perturbed(LinearSpline(3, 9, 1.2, monotone=monotone))
    knots = torch.linspace(-1.2, 1.2, 9, dtype=torch.float64).unsqueeze(1).expand(9, 3)
    assert spline.activation(knots[4:5]).abs().max() < 1e-15
    for side in (-1e-12, 1e-12):
        for function in (spline.activation, spline.density):
            jump = (function(knots + side) - function(knots)).abs().max()
            assert jump < 1e-10
    rise = spline.activation(knots).diff(dim=0).T
    torch.testing.assert_close(rise, spline.increments.detach())
    far = torch.tensor([[-50.0] * 3, [-1.2] * 3, [1.2] * 3, [50.0] * 3], dtype=torch.float64)
    values = spline.activation(far)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[3], values[2])
    # beyond the knots the potential is linear with the saturated slope
    torch.testing.assert_close(
        spline.density(far[3:]) - spline.density(far[2:3]), values[3:] * (50 - 1.2)
    )


def test_spline_second_differences_are_changes_of_slope() -> None:
    spline = perturbed(LinearSpline(2, 5, 1.0))
    middles = torch.tensor([-2.0, -0.75, -0.25, 0.25, 0.75, 2.0], dtype=torch.float64)
    slopes = gradient(spline.activation, middles.unsqueeze(1).expand(6, 2)).T
    expected = slopes.diff(dim=1) * spline.step
    torch.testing.assert_close(spline.second_differences(), expected)


def test_a_shared_spline_equals_equal_splines() -> None:
    shared = perturbed(LinearSpline(1, 11, 0.8))
    unshared = LinearSpline(4, 11, 0.8).double()
    unshared.load_state_dict({"raw": shared.raw.detach().repeat(4, 1)})
    u = random(2, 4, 3, 5)
    torch.testing.assert_close(shared.activation(u), unshared.activation(u))
    torch.testing.assert_close(shared.density(u), unshared.density(u))
    torch.testing.assert_close(shared.curvature_bound(4), unshared.curvature_bound(4))


def test_roughness_is_the_variation_of_the_slopes() -> None:
    spline = perturbed(LinearSpline(1, 11, 0.8))
    roughness = spline_roughness(torch.nn.Sequential(spline, LogCosh()))
    assert roughness is not None
    knots = torch.linspace(-spline.limit, spline.limit, spline.knots, dtype=torch.float64)
    slopes = spline.activation(knots.unsqueeze(1)).diff(dim=0).flatten() / spline.step
    ends = torch.zeros(1).double()
    expected = torch.cat([ends, slopes, ends]).diff().abs().sum()
    torch.testing.assert_close(roughness, expected)
    assert spline_roughness(LogCosh()) is None


@over("case", POTENTIALS)
def test_finite_at_extreme_arguments(case: PotentialCase) -> None:
    potential = perturbed(case.build()).float()
    for scale in (1e-30, 1e4):
        u = (scale * random(2, case.channels)).float()
        value, grad = potential.value_and_grad(u)
        assert torch.isfinite(value).all()
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LinearSpline(1, 4), "odd number of at least 3 knots, got 4"),
        (lambda: LinearSpline(1, 1), "odd number of at least 3 knots, got 1"),
        (lambda: LogSumExp(temperature=0.0), "temperature must be positive, got 0"),
        (lambda: LogSumExp(4).groups(6), "6 channels do not divide into groups of 4"),
        (lambda: PooledNorm(6, group_size=4), "6 channels do not divide into groups of 4"),
        (lambda: MaxEnvelope(0), "a group has at least one channel, got 0"),
        (lambda: MaxEnvelope(4).groups(6), "6 channels do not divide into groups of 4"),
        (lambda: PooledNorm(6, window=2), "window must be odd, got 2"),
    ],
)
def test_impossible_settings_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
