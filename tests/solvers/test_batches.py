"""Batches: every image gets what it would get alone, and one that has stopped costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers import OGMG, Box, Objective, Progress, Proximity, Sum, minimise
from convexreg.solvers.batches import take
from convexreg.solvers.curvature import Curvature, Preconditioner
from tests.problems import (
    SOLVERS,
    UNIT,
    Quadratic,
    SolverCase,
    quadratic,
    scenes,
    small_regularizer,
    spectra,
)
from tests.tables import over

ALL_SOLVERS = SOLVERS | {"ogm-g": SolverCase(OGMG(20))}


class PerImage(Objective):
    """Counts image by image what is asked of an objective that can be taken apart, or refuses to be.

    :ivar spent: evaluations by the number of the image, shared with the parts.
    """

    def __init__(self, inner: Objective, numbers: Tensor, spent: Tensor, *, whole: bool) -> None:
        self.inner, self.numbers, self.spent, self.whole = inner, numbers, spent, whole

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.spent[self.numbers] += 1
        return self.inner.value_and_grad(x)

    def value(self, x: Tensor) -> Tensor:
        self.spent[self.numbers] += 0.5
        return self.inner.value(x)

    def lipschitz(self, x: Tensor) -> Tensor:
        return self.inner.lipschitz(x)

    def strong_convexity(self, x: Tensor) -> Tensor:
        return self.inner.strong_convexity(x)

    def curvature(self, x: Tensor) -> Curvature | None:
        model = self.inner.curvature(x)
        if model is not None:
            self.spent[self.numbers] += 1
        return model

    def subset(self, index: Tensor) -> Objective | None:
        part = None if self.whole else self.inner.subset(index)
        if part is None:
            return None
        return PerImage(part, self.numbers[index], self.spent, whole=False)


def counted(inner: Objective, batch: int, *, whole: bool = False) -> PerImage:
    return PerImage(inner, torch.arange(batch), torch.zeros(batch).double(), whole=whole)


class Denoising(Sum):
    """Of images that can be taken apart."""

    def __init__(self, noisy: Tensor, sigma: Tensor, regularizer: ConvexRegularizer) -> None:
        self.noisy, self.sigma, self.regularizer = noisy, sigma, regularizer
        super().__init__([Proximity(noisy), regularizer.term(sigma)], [1.0, 1.0])

    def subset(self, index: Tensor) -> Denoising:
        return Denoising(self.noisy[index], self.sigma[index], self.regularizer)


@pytest.mark.parametrize("whole", [False, True], ids=["apart", "whole"])
@pytest.mark.parametrize("box", [Box(), UNIT], ids=["free", "unit"])
@over("case", SOLVERS)
def test_a_batch_gives_every_image_what_it_gets_alone(
    case: SolverCase, box: Box, whole: bool
) -> None:
    """Bit for bit: easy and hard images, converging at very different iterations."""
    problem = quadratic(spectra(6, 6, (1.2, 20.0, 500.0)), box)
    objective = problem.objective
    assert isinstance(objective, Quadratic)
    options = {"box": box, "gap_tol": 1e-6, "max_iter": 200}
    together = minimise(counted(objective, 6, whole=whole), problem.x0, case.solver, **options)
    assert len(set(together.iterations.tolist())) > 2
    for index in range(6):
        here = slice(index, index + 1)
        alone = minimise(objective[here], problem.x0[here], case.solver, **options)
        for name in ("x", "status", "iterations", "evaluations", "stationarity"):
            assert torch.equal(getattr(alone, name), getattr(together, name)[here]), name
        for name in ("gap", "lower", "distance"):
            expected = getattr(together.certificate, name)[here]
            assert torch.equal(getattr(alone.certificate, name), expected), name


@over("case", ALL_SOLVERS)
def test_a_batch_of_images_agrees_with_one_at_a_time(case: SolverCase) -> None:
    """With convolutions, whose rounding depends on the batch."""
    noisy = scenes(3) + 0.1 * torch.randn(3, 1, 7, 8).double()
    sigma = torch.tensor([0.03, 0.1, 0.3]).double()
    options = {"gtol": 1e-6, "max_iter": 3000}
    regularizer = small_regularizer()
    together = minimise(Denoising(noisy, sigma, regularizer), noisy, case.solver, **options)
    assert together.converged
    for index in range(3):
        here = slice(index, index + 1)
        part = Denoising(noisy[here], sigma[here], regularizer)
        alone = minimise(part, noisy[here], case.solver, **options)
        assert torch.equal(alone.iterations, together.iterations[here])
        assert torch.equal(alone.evaluations, together.evaluations[here])
        torch.testing.assert_close(alone.x, together.x[here], rtol=0, atol=1e-12)


@pytest.mark.parametrize("whole", [False, True], ids=["apart", "whole"])
@over("case", ALL_SOLVERS)
def test_images_that_have_stopped_neither_change_nor_cost(case: SolverCase, whole: bool) -> None:
    problem = quadratic(spectra(6, 6, (300.0, 1.2, 20.0)), Box())
    objective, history, spent = counted(problem.objective, 6, whole=whole), [], []

    def record(progress: Progress) -> None:
        history.append(progress)
        spent.append(objective.spent.clone())

    solution = minimise(
        objective, problem.x0, case.solver, gtol=1e-4, max_iter=2000, callback=record
    )
    assert solution.converged
    assert torch.equal(solution.x, history[-1].x)
    assert all(bool(((p.done >= 0) & (p.done <= 1)).all()) for p in history)
    assert float(history[0].done.min()) == 0 < float(history[-2].done.min()) < 1
    assert (solution.iterations.min(), solution.iterations.max()) != (len(history), len(history))
    for image, end in enumerate(solution.iterations.tolist()):
        stopped = history[end - 1]
        assert history[end - 2].active[image]
        for progress, cost in zip(history[end - 1 :], spent[end - 1 :], strict=True):
            assert not progress.active[image]
            assert progress.done[image] == 1
            assert torch.equal(progress.x[image], stopped.x[image])
            for name in ("evaluations", "gap", "relative_gap", "stationarity", "step_size"):
                assert getattr(progress, name)[image] == getattr(stopped, name)[image], name
            assert whole or cost[image] == spent[end - 1][image]


@pytest.mark.parametrize("name", ["gd", "fista", "ogm-g"])
def test_fixed_steps_cost_every_image_what_it_reports(name: str) -> None:
    """Two iterations are paid as two, beside an image that takes a hundred."""
    problem = quadratic(spectra(4, 6, (1.05, 300.0)), Box())
    objective = counted(problem.objective, 4)
    solution = minimise(objective, problem.x0, ALL_SOLVERS[name].solver, gtol=1e-3, max_iter=5000)
    assert torch.equal(objective.spent, solution.evaluations)
    assert solution.evaluations.max() > 4 * solution.evaluations.min()


def test_an_image_that_failed_leaves_the_batch_and_keeps_its_place() -> None:
    class Broken(Quadratic):
        def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
            value, grad = super().value_and_grad(x)
            return value, torch.where(self.largest.unsqueeze(1) == 7, float("nan"), grad)

        def subset(self, index: Tensor) -> Broken:
            return Broken(*(part[index] for part in vars(self).values()))

    problem = quadratic(spectra(3, 6, (5.0,)), Box())
    broken = Broken(*(part.clone() for part in vars(problem.objective).values()))
    broken.largest[1] = 7.0
    for case in SOLVERS.values():
        solution = minimise(broken, problem.x0, case.solver, gtol=1e-6, throw=False)
        assert solution.status.tolist() == [1, 5, 1]
        torch.testing.assert_close(solution.x[::2], problem.minimiser[::2], rtol=0, atol=1e-4)
        assert torch.equal(solution.x[1], problem.x0[1])


def test_what_belongs_to_images_is_taken_through_every_layer() -> None:
    @dataclass(frozen=True)
    class Part:
        each: Tensor
        shared: Tensor
        number: int

    each, shared, index = torch.arange(6.0).reshape(3, 2), torch.ones(1, 2), torch.tensor([2, 0])
    part = take(Part(each, shared, 3), index, 3)
    assert torch.equal(part.each, each[[2, 0]])
    assert part.shared is shared
    assert part.number == 3
    parts, nothing, scalar = take(((part, part), None, torch.tensor(3.0)), torch.tensor([1]), 2)
    assert torch.equal(parts[1].each, each[[0]])
    assert nothing is None
    assert scalar == 3
    model = Curvature(1 + torch.rand(3, 1, 4, 3), 1 + torch.rand(3, 1, 4, 4))
    whole, grad = Preconditioner(model), torch.randn(3, 1, 4, 4)
    torch.testing.assert_close(take(whole, index, 3)(grad[index]), whole(grad)[index])
    assert whole.filter.scale.shape[0] == 3
