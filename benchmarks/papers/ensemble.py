"""Training all trials of a small network as one computation."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

Network = Callable[[Tensor], Tensor]


class Ensemble:
    """`T` networks of one architecture with their own parameters, evaluated together.

    Small networks spend their time between operations rather than in them, so `T` trials cost little
    more than one. No operation mixes the trials: each is trained exactly as it would be alone.

    :param build: makes a network; called once for every seed, with PyTorch's generator seeded.
    """

    def __init__(self, build: Callable[[], nn.Module], seeds: Sequence[int]) -> None:
        members = []
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                members.append(build())
        self._template = members[0]
        self.skeleton = copy.deepcopy(members[0]).to("meta")
        parameters, self.buffers = stack_module_state(members)
        self.parameters = {
            name: value.detach().requires_grad_() for name, value in parameters.items()
        }

    def __len__(self) -> int:
        return next(iter(self.parameters.values())).shape[0]

    @property
    def parameter_count(self) -> int:
        """Of one network."""
        return sum(value[0].numel() for value in self.parameters.values())

    def map(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """`function(network, *inputs)` of every trial; inputs and result have the trials first."""

        def of_one(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor], *its_inputs: Tensor
        ) -> Tensor:
            def network(x: Tensor) -> Tensor:
                return functional_call(self.skeleton, (parameters, buffers), (x,))

            return function(network, *its_inputs)

        return vmap(of_one)(self.parameters, self.buffers, *inputs)

    def __call__(self, x: Tensor) -> Tensor:
        """Every network at its own points: `(T, B, n)` to `(T, B, m)`."""
        return self.map(lambda network, points: network(points), x)

    def member(self, index: int) -> nn.Module:
        """One network on its own."""
        network = copy.deepcopy(self._template)
        state = {**self.parameters, **self.buffers}
        network.load_state_dict({name: value[index].detach() for name, value in state.items()})
        return network.requires_grad_(False)


@dataclass(frozen=True)
class Fit:
    """A trained ensemble.

    :ivar history: the objective on the validation data, one row an evaluation, one column a trial.
    :ivar seconds: wall time of the training, shared out to the trials.
    """

    ensemble: Ensemble
    history: Tensor
    seconds: float


def fit(
    build: Callable[[], nn.Module],
    objective: Callable[..., Tensor],
    batches: Iterable[Sequence[Tensor]],
    validation: Sequence[Tensor],
    *,
    trials: int,
    seed: int,
    learning_rate: float,
    validate_every: int,
    decay_over: int | None = None,
) -> Fit:
    """Minimise `objective(network, *batch)` by Adam in every trial.

    The objective is evaluated on the validation data every so many steps, and every trial ends with the
    parameters of its best evaluation.

    :param batches: what the objective gets, every tensor with the trials first.
    :param seed: of the first trial's initial parameters; the others follow.
    :param decay_over: number of steps of a half-cosine decay of the learning rate; constant without.
    """
    started = time.perf_counter()
    ensemble = Ensemble(build, range(seed, seed + trials))
    parameters = list(ensemble.parameters.values())
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    best = [parameter.detach().clone() for parameter in parameters]
    lowest = torch.full((trials,), float("inf"))
    history = []
    for step, batch in enumerate(batches, 1):
        if decay_over is not None:
            cosine = math.cos(math.pi * min(step / decay_over, 1.0))
            optimizer.param_groups[0]["lr"] = learning_rate * (1 + cosine) / 2
        optimizer.zero_grad()
        ensemble.map(objective, *batch).sum().backward()
        optimizer.step()
        if step % validate_every == 0:
            with torch.no_grad():
                losses = ensemble.map(objective, *validation)
            history.append(losses)
            better = losses < lowest
            lowest = torch.where(better, losses, lowest)
            for kept, parameter in zip(best, parameters, strict=True):
                kept[better] = parameter.detach()[better]
    with torch.no_grad():
        for kept, parameter in zip(best, parameters, strict=True):
            parameter.copy_(kept)
    seconds = (time.perf_counter() - started) / trials
    return Fit(ensemble, torch.stack(history), seconds)


def minibatches(
    tensors: Sequence[Tensor], *, epochs: int, batch_size: int, generator: torch.Generator
) -> Iterator[list[Tensor]]:
    """Shuffled batches of `(T, N, ...)` tensors; an incomplete last batch is left out."""
    count = tensors[0].shape[1]
    for _ in range(epochs):
        order = torch.randperm(count, generator=generator)
        shuffled = [tensor[:, order] for tensor in tensors]
        for start in range(0, count - batch_size + 1, batch_size):
            yield [tensor[:, start : start + batch_size] for tensor in shuffled]


def resampled(
    points: Tensor, *, steps: int, batch_size: int, generator: torch.Generator
) -> Iterator[list[Tensor]]:
    """Batches drawn with replacement from `(T, N, n)` points, the same places in every trial."""
    for _ in range(steps):
        index = torch.randint(points.shape[1], (batch_size,), generator=generator)
        yield [points[:, index]]
