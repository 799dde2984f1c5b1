"""Derivatives of a minimiser, to any order, through its optimality condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from .linear_systems import Linear, conjugate_gradient
from .precision import without_autocast


class ImplicitSolution:
    """Attaches the derivatives of `x*(theta) = argmin F(x; theta)` to a computed minimiser.

    With `G(x, theta) = grad_x F`, the implicit function theorem gives `dx*/dtheta = -H^{-1} dG/dtheta`,
    so the vector-Jacobian product of `v` is that of `-w` through `G(x*, .)`, with `H w = v`. `H` is
    symmetric positive definite, and the system is solved by conjugate gradients.

    Where that product is differentiated in its turn, it is a function of `theta` itself and through
    `x*` and `w`. Both are minimisers, `w` that of `<w, H w> / 2 - <v, w>`, and get their derivatives in
    the same way: derivatives of any order are right, to the accuracy of the minimiser and `tol`.

    After the backward pass `residual` holds the relative residual of its first solve, `(B,)`, and
    `iterations` its length.

    :param tol, max_iter, preconditioner: see `conjugate_gradient`.
    """

    def __init__(
        self,
        *,
        tol: float = 1e-6,
        max_iter: int = 200,
        preconditioner: Linear | None = None,
    ) -> None:
        self.tol, self.max_iter, self.preconditioner = tol, max_iter, preconditioner
        self.residual: Tensor | None = None
        self.iterations = 0

    def attach(
        self,
        gradient: Callable[..., Tensor],
        minimiser: Tensor,
        inputs: Sequence[Any] = (),
        parameters: Sequence[Tensor] = (),
    ) -> Tensor:
        """`minimiser` with its derivatives in `inputs` and `parameters`.

        Without grad mode, or where nothing requires a gradient, the minimiser alone.

        :param gradient: `(x, *inputs) -> grad F(x)`, differentiable. It is evaluated in the backward
            pass, with other tensors in the place of `inputs`: it must take them from its arguments.
        :param minimiser: the solution, any derivative it carries is dropped.
        :param inputs: what `gradient` takes besides `x`; tensors may be the results of other operations,
            and other objects are passed on.
        :param parameters: the tensors `gradient` depends on without taking them as arguments.
        :raises ValueError: a parameter that is computed from another one.
        """
        minimiser = _savable(minimiser.detach())
        parameters = tuple(dict.fromkeys(p for p in parameters if p.requires_grad))
        if not torch.is_grad_enabled() or not (
            parameters or any(isinstance(t, Tensor) and t.requires_grad for t in inputs)
        ):
            return minimiser
        _check_unrelated(parameters)
        places = [i for i, item in enumerate(inputs) if isinstance(item, Tensor)]
        constants = [None if i in places else item for i, item in enumerate(inputs)]

        def function(x: Tensor, *tensors: Tensor) -> Tensor:
            arguments = list(constants)
            for place, tensor in zip(places, tensors, strict=True):
                arguments[place] = tensor
            return gradient(x, *arguments)

        tensors = [_savable(inputs[i]) for i in places]
        attached = _Minimiser.apply(self, function, len(tensors), minimiser, *tensors, *parameters)
        assert isinstance(attached, Tensor)
        return attached

    @without_autocast
    def _pullback(
        self,
        gradient: Callable[..., Tensor],
        minimiser: Tensor,
        inputs: Sequence[Tensor],
        parameters: Sequence[Tensor],
        v: Tensor,
    ) -> list[Tensor | None]:
        """The product of `v` with the Jacobian in every input and parameter, differentiable in grad mode."""
        differentiable = torch.is_grad_enabled()
        nested = ImplicitSolution(
            tol=self.tol, max_iter=self.max_iter, preconditioner=self.preconditioner
        )
        gate = _Gate()
        solution = minimiser
        if differentiable:
            solution = nested.attach(gradient, minimiser, inputs, parameters)
            point, *arguments = (gate.passed(tensor) for tensor in (solution, *inputs))
        else:
            point = minimiser.detach().requires_grad_()
            arguments = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in inputs]
        with torch.enable_grad():
            residual = gradient(point, *arguments)

        def hessian(p: Tensor) -> Tensor:
            (image,) = torch.autograd.grad(residual, point, p.to(residual.dtype), retain_graph=True)
            return image

        with torch.no_grad():
            solve = conjugate_gradient(
                hessian,
                v.detach(),
                tol=self.tol,
                max_iter=self.max_iter,
                preconditioner=self.preconditioner,
            )
        self.residual, self.iterations = solve.residual, solve.iterations

        def linear(p: Tensor, v: Tensor, x: Tensor, *inputs: Tensor) -> Tensor:
            image = gradient(x, *inputs)
            (image,) = torch.autograd.grad(image, x, p.to(image.dtype), create_graph=True)
            return image - v

        w = solve.solution
        if differentiable:
            w = nested.attach(linear, w, (v, solution, *inputs), parameters)
        everything = [*arguments, *parameters]
        gate.closed = True
        grads = iter(
            torch.autograd.grad(
                residual,
                [tensor for tensor in everything if tensor.requires_grad],
                -w.to(residual.dtype),
                create_graph=differentiable,
                allow_unused=True,
            )
        )
        gate.closed = False
        return [next(grads) if tensor.requires_grad else None for tensor in everything]


class _Minimiser(torch.autograd.Function):
    """The minimiser as a function of inputs and parameters; its derivative is made when asked for."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        rule: ImplicitSolution,
        gradient: Callable[..., Tensor],
        inputs: int,
        minimiser: Tensor,
        *tensors: Tensor,
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.rule, ctx.gradient, ctx.inputs = rule, gradient, inputs
        ctx.save_for_backward(minimiser, *tensors)
        return minimiser.clone()

    @staticmethod
    def backward(ctx: Any, v: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        minimiser, *tensors = ctx.saved_tensors
        grads: list[Tensor | None] = [None] * len(tensors)
        if v is not None:
            inputs, parameters = tensors[: ctx.inputs], tensors[ctx.inputs :]
            grads = ctx.rule._pullback(ctx.gradient, minimiser, inputs, parameters, v)
        return (None, None, None, None, *grads)


class _Gate:
    """Tensors that carry their derivatives while the gate is open, and none while it is closed.

    A partial derivative is taken through what its arguments are made of, unless they stop it; its own
    derivative goes through them again.
    """

    def __init__(self) -> None:
        self.closed = False

    def passed(self, tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        passed = _Passed.apply(self, tensor)
        assert isinstance(passed, Tensor)
        return passed


class _Passed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: _Gate, tensor: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.set_materialize_grads(False)
        ctx.gate = gate
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, None if ctx.gate.closed else grad


def _savable(tensor: Tensor) -> Tensor:
    """Tensors made in inference mode cannot be saved for a backward pass, their copies can."""
    return tensor.clone() if tensor.is_inference() else tensor


def _check_unrelated(parameters: Sequence[Tensor]) -> None:
    """A derivative in two tensors of which one is made from the other would count it twice."""
    nodes = {get_gradient_edge(parameter).node for parameter in parameters}
    visited: set[Any] = set()
    waiting = [after for node in nodes for after, _ in node.next_functions]
    while waiting:
        node = waiting.pop()
        if node in nodes:
            raise ValueError(
                "a parameter is computed from another one; make it an input, which the gradient takes "
                "as an argument"
            )
        if node is not None and node not in visited:
            visited.add(node)
            waiting += [after for after, _ in node.next_functions]
