"""Several processes, as `torchrun` starts them: each takes its share of the files, or of every batch."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

_PATIENCE = timedelta(days=30)
"""How long processes wait for each other: their shares can take any time, and `torchrun` ends them all where
one has died."""


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Within it the processes of `torchrun` know of each other; nothing without it.

    By gloo on the CPU, by nccl on GPUs.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
        distributed.barrier()  # nobody leaves while others still hear from it
    finally:
        gc.collect()  # what still refers to the group would end its threads after Python has ended
        distributed.destroy_process_group()


def own_device(name: str) -> torch.device:
    """`cuda` is a GPU of its own for every process of a machine."""
    device = torch.device(name)
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def place() -> tuple[int, int]:
    """The number of this process and how many there are: 0 and 1 without others."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class Loss(nn.Module):
    """A loss of a model as a module, whose gradient is the mean over the processes after `backward`.

    :param model: its parameters are those that are differentiated.
    :param function: of tensors to a mean over their images, 0-dim.
    """

    def __init__(self, model: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.function(*tensors)

    def shared(self) -> nn.Module:
        """Itself, or with the gradients of all processes."""
        return self if place()[1] == 1 else DistributedDataParallel(self)


def share(batch: Tensor) -> Tensor:
    """What of a batch is for this process: an equal part.

    :raises ValueError: it cannot be divided.
    """
    number, count = place()
    if len(batch) % count:
        raise ValueError(
            f"a batch of {len(batch)} cannot be divided among {count} processes; give a batch size that "
            f"is a multiple of {count}"
        )
    return batch.unflatten(0, (count, -1))[number]


def total(value: Tensor) -> Tensor:
    """The sum over the processes."""
    if place()[1] == 1:
        return value
    value = value.detach().clone()
    distributed.all_reduce(value)
    return value


def mean(value: Tensor) -> Tensor:
    """Over the processes."""
    _, count = place()
    return value if count == 1 else total(value) / count


def wait() -> None:
    """Until all processes are here."""
    if place()[1] > 1:
        distributed.barrier()


def is_first() -> bool:
    """Whether this process is the only one or the first of several, also where they do not yet know of each
    other."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK") == "0"
