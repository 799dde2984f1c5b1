"""The prior keeps the contract of deepinv: values, gradients, proximal points, constants."""

from __future__ import annotations

import copy

import deepinv
import pytest
import torch
from deepinv.optim import BregmanL2
from deepinv.optim.bregman import BurgEntropy
from torch import Tensor, nn

from convexreg import ConvexPrior
from convexreg.reconstruction.defaults import Tolerance
from convexreg.reconstruction.problem import proximal_problem
from convexreg.reconstruction.proximal import LastPoint
from convexreg.solvers import operator_bounds
from tests.plugin.conftest import SIGMA, SIZE, TOL, blur
from tests.problems import scenes, small_regularizer
from tests.tables import over

LEVELS = {
    "float": lambda: SIGMA,
    "0-dim": lambda: torch.tensor(SIGMA),
    "one": lambda: torch.tensor([[SIGMA]]),
    "per-image": lambda: torch.full((3,), SIGMA),
    "per-image-4d": lambda: torch.full((3, 1, 1, 1), SIGMA),
    "parameter": lambda: nn.Parameter(torch.tensor(SIGMA)),
}


@over("level", LEVELS)
def test_every_form_of_the_noise_level(level, prior, regularizer, images):
    sigma = level()
    energy, grad = regularizer.value_and_grad(images, SIGMA)
    for value in (prior(images, sigma), prior(images, sigma, reduce=False)):
        assert value.shape == (3,)
        assert value.dtype == images.dtype
        torch.testing.assert_close(value, energy, rtol=1e-6, atol=0)
    torch.testing.assert_close(prior.grad(images, sigma), grad, rtol=1e-5, atol=1e-9)
    point = prior.prox(images, sigma, gamma=0.7)
    residual = point - images + 0.7 * regularizer.grad(point, SIGMA)
    assert (residual.square().mean((1, 2, 3)).sqrt() < 1e-6).all()


def test_levels_and_steps_per_image_are_those_of_each_image(prior, images):
    sigma, gamma = torch.tensor([0.05, 0.1, 0.2]).double(), torch.tensor([0.3, 1.0, 3.0]).double()
    column = gamma.reshape(3, 1, 1, 1)
    values, grads = prior(images, sigma), prior.grad(images, sigma)
    points = prior.prox(images, sigma, gamma=column)
    for index in range(3):
        image, level = images[index : index + 1], float(sigma[index])
        torch.testing.assert_close(values[index : index + 1], prior(image, level))
        torch.testing.assert_close(grads[index : index + 1], prior.grad(image, level))
        alone = prior.prox(image, level, gamma=float(gamma[index]))
        torch.testing.assert_close(points[index : index + 1], alone, rtol=0, atol=1e-7)


def test_the_gradient_is_that_of_the_value_and_the_input_is_left_alone(prior, images):
    before = images.clone()
    grad = prior.grad(images, SIGMA)
    prior.prox(images, SIGMA)
    prior(images, SIGMA)
    assert not images.requires_grad
    assert torch.equal(images, before)
    copied = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(prior(copied, SIGMA).sum(), copied)
    torch.testing.assert_close(grad, expected)


def test_prox_is_within_its_tolerance_and_firmly_nonexpansive(regularizer, images):
    exact = ConvexPrior(regularizer, prox_tol=1e-9)
    rough = ConvexPrior(regularizer, prox_tol=1e-4)
    other = torch.randn_like(images)
    for gamma in (0.01, 1.0, 30.0):
        p, q = exact.prox(images, SIGMA, gamma=gamma), exact.prox(other, SIGMA, gamma=gamma)
        error = rough.prox(images, SIGMA, gamma=gamma) - p
        assert (error.square().mean((1, 2, 3)).sqrt() <= 1e-4).all()
        inner = ((p - q) * (images - other)).sum((1, 2, 3))
        assert ((p - q).square().sum((1, 2, 3)) <= inner + 1e-6).all()
    assert torch.equal(exact.prox(images, SIGMA, gamma=0.0), images)


def test_moreau_identity(prior, images):
    """`x = prox_R(x) + prox_{R*}(x)`, the second from deepinv's own formula."""
    conjugate = prior.prox_conjugate(images, SIGMA, gamma=1.0)
    torch.testing.assert_close(prior.prox(images, SIGMA) + conjugate, images)


@pytest.mark.parametrize("wanted", ["x", "gamma", "sigma", "weights"])
def test_prox_has_the_derivative_of_the_exact_minimiser(wanted, regularizer, images):
    prior = ConvexPrior(regularizer.requires_grad_(wanted == "weights"), prox_tol=1e-9)
    values = {
        "x": images[:1].clone(),
        "gamma": torch.tensor(0.8).double(),
        "sigma": torch.tensor(SIGMA).double(),
        "weights": next(p for n, p in regularizer.named_parameters() if "kernels" in n),
    }
    moved = values[wanted].requires_grad_()
    probe, direction = torch.randn_like(images[:1]), torch.randn_like(moved)

    def projected() -> Tensor:
        point = prior.prox(values["x"], values["sigma"], gamma=values["gamma"])
        return (point * probe).sum()

    (grad,) = torch.autograd.grad(projected(), moved)
    with torch.no_grad():
        step = 1e-4 * direction / direction.norm() * moved.norm()
        moved.add_(step)
        above = projected()
        moved.sub_(2 * step)
        difference = (above - projected()) / 2
    torch.testing.assert_close((grad * step).sum(), difference, rtol=1e-4, atol=0)


def test_constants_hold(prior, images):
    size = (images.shape[2], images.shape[3])
    bound = prior.lipschitz(size, SIGMA)
    assert bound.ndim == 0
    assert prior.lipschitz(size, torch.full((3,), SIGMA)).shape == (3,)
    assert bound <= prior.lipschitz(None, SIGMA) * (1 + 1e-9)
    assert float(prior.strong_convexity()) == 0
    jacobian = torch.autograd.functional.jacobian(
        lambda flat: prior.grad(flat.reshape(1, 1, *SIZE), SIGMA).flatten(), images[0].flatten()
    )
    assert torch.linalg.eigvalsh(jacobian)[-1] <= bound
    physics = blur()
    step = prior.stepsize(physics, images, lambda_reg=0.5, g_param=SIGMA)
    assert isinstance(step, float)
    largest = torch.as_tensor(operator_bounds(physics, images).largest)
    torch.testing.assert_close(1 / step, float(largest + 0.5 * bound))


def test_one_step_for_a_batch_is_the_shortest_of_its_images(prior, images):
    levels = torch.tensor([0.02, 0.1, 0.3]).double()
    physics = blur()
    alone = [prior.stepsize(physics, images[:1], g_param=float(level)) for level in levels]
    assert max(alone) > 1.05 * min(alone)
    together = prior.stepsize(physics, images, g_param=levels)
    assert together == pytest.approx(min(alone), rel=1e-9)


def test_weights_are_those_of_the_module(prior, images):
    assert {name.split(".")[0] for name in prior.state_dict()} == {"regularizer"}
    assert list(prior.parameters())
    single = copy.deepcopy(prior).to(torch.float32)
    assert prior(images, SIGMA).dtype == torch.float64
    values = single(images.float(), SIGMA)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), prior(images, SIGMA), rtol=1e-4, atol=1e-6)
    changed = copy.deepcopy(prior)
    for parameter in changed.parameters():
        parameter.data.mul_(1.1)
    assert not torch.allclose(changed(images, SIGMA), prior(images, SIGMA))
    changed.load_state_dict(prior.state_dict())
    assert torch.equal(changed(images, SIGMA), prior(images, SIGMA))


def test_any_number_of_channels(regularizer, prior, images):
    bands = scenes(2, *SIZE, channels=5)
    sigma = torch.tensor([0.05, 0.2]).double()
    each = ConvexPrior(regularizer, prox_tol=TOL, per_channel=True)
    grads, points = each.grad(bands, sigma), each.prox(bands, sigma, gamma=0.5)
    for band in range(5):
        plane = bands[:, band : band + 1]
        torch.testing.assert_close(grads[:, band : band + 1], prior.grad(plane, sigma))
        alone = prior.prox(plane, sigma, gamma=0.5)
        torch.testing.assert_close(points[:, band : band + 1], alone, rtol=0, atol=1e-7)
    whole = sum(prior(bands[:, band : band + 1], sigma) for band in range(5))
    torch.testing.assert_close(each(bands, sigma), whole)
    torch.testing.assert_close(prior(bands, sigma), whole)  # a gray model takes them as they are


def test_what_cannot_be_done_is_one_clear_sentence(prior, images):
    with pytest.raises(ValueError, match="gamma must be nonnegative"):
        prior.prox(images, SIGMA, gamma=-1.0)
    with pytest.raises(ValueError, match="give sigma"):
        prior(images)
    with pytest.raises(ValueError, match=r"float32.*convert"):
        prior(images.float(), SIGMA)
    with pytest.raises(ValueError, match=r"no bound on the norm of CompressedSensing"):
        prior.stepsize(
            deepinv.physics.CompressedSensing(m=5, img_size=(1, *SIZE)), images, g_param=SIGMA
        )
    with pytest.raises(NotImplementedError, match="BregmanL2"):
        prior.bregman_prox(images, BurgEntropy(), SIGMA)
    assert torch.equal(
        prior.bregman_prox(images, BregmanL2(), SIGMA, gamma=0.5),
        prior.prox(images, SIGMA, gamma=0.5),
    )


def test_a_tolerance_below_the_precision_is_reported(regularizer, images):
    prior = ConvexPrior(regularizer.float(), prox_tol=1e-12)
    with pytest.warns(RuntimeWarning, match="only known to an rms error"):
        prior.prox(images.float(), SIGMA)


def test_a_warm_start_saves_work_and_changes_nothing_beyond_the_tolerance() -> None:
    """Image by image, as far as the last point is near; of other shapes it begins anew."""
    regularizer, y = small_regularizer(), scenes(3) + 0.1 * torch.randn(3, 1, 7, 8).double()
    cold, warm = (ConvexPrior(regularizer, prox_tol=1e-7, warm_start=w) for w in (False, True))
    moved = y + 1e-4 * torch.randn_like(y)
    moved[1] += 1
    for x in (y, moved, y[:1], moved):
        assert (cold.prox(x, 0.1) - warm.prox(x, 0.1)).flatten(1).norm(dim=1).max() < 2e-7 * 56**0.5
    last, point = LastPoint(), cold.prox(y, 0.1)
    assert torch.equal(last.start(y), y)
    last.keep(y, point)
    start = last.start(moved)
    torch.testing.assert_close(start[0], point[0] + moved[0] - y[0])
    assert torch.equal(start[1], moved[1])
    problem = proximal_problem(moved[:1], regularizer, 0.1)
    counts = [
        float(problem.minimise(begin[:1], tolerance=Tolerance(gtol=1e-7)).evaluations)
        for begin in (moved, start)
    ]
    assert counts[1] < 0.8 * counts[0]
