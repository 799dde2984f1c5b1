"""Training all trials of a small network as one computation."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.lr_scheduler import CosineAnnealingLR

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
        self._skeleton = copy.deepcopy(members[0]).to("meta")
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
                return functional_call(self._skeleton, (parameters, buffers), (x,))

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
class Training:
    """How the trials of a network are trained by Adam.

    :ivar points: numbers of points to train, validate and test on, as far as they are drawn beforehand.
    :ivar validations: how often the objective is evaluated on the validation data.
    :ivar decay: of the learning rate along half a cosine to zero; constant without.
    """

    trials: int
    steps: int
    batch_size: int
    learning_rate: float
    points: tuple[int, ...] = ()
    validations: int = 20
    decay: bool = True


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
    training: Training,
    *,
    seed: int,
) -> Fit:
    """Minimise `objective(network, *batch)` in every trial.

    Every trial ends with the parameters of its best evaluation on the validation data.

    :param batches: what the objective gets, every tensor with the trials first.
    :param seed: of the first trial's initial parameters; the others follow.
    """
    started = time.perf_counter()
    ensemble = Ensemble(build, range(seed, seed + training.trials))
    parameters = list(ensemble.parameters.values())
    optimizer = torch.optim.Adam(parameters, lr=training.learning_rate, fused=True)
    schedule = CosineAnnealingLR(optimizer, training.steps)
    best = [parameter.detach().clone() for parameter in parameters]
    lowest = torch.full((training.trials,), float("inf"))
    history = []
    for step, batch in enumerate(batches, 1):
        optimizer.zero_grad()
        ensemble.map(objective, *batch).sum().backward()
        optimizer.step()
        if training.decay:
            schedule.step()
        if step % max(training.steps // training.validations, 1) == 0:
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
    return Fit(ensemble, torch.stack(history), (time.perf_counter() - started) / training.trials)


def minibatches(
    tensors: Sequence[Tensor], training: Training, generator: torch.Generator
) -> Iterator[Sequence[Tensor]]:
    """Shuffled batches of `(T, N, ...)` tensors: whole epochs, in which every point comes once."""
    count, size = tensors[0].shape[1], training.batch_size
    for _ in range(training.steps * size // count):
        order = torch.randperm(count, generator=generator)
        shuffled = [tensor[:, order] for tensor in tensors]
        yield from zip(*(tensor.split(size, 1) for tensor in shuffled), strict=True)


def resampled(
    points: Tensor, training: Training, generator: torch.Generator
) -> Iterator[list[Tensor]]:
    """Batches drawn with replacement from `(T, N, n)` points, the same places in every trial."""
    for _ in range(training.steps):
        index = torch.randint(points.shape[1], (training.batch_size,), generator=generator)
        yield [points[:, index]]
