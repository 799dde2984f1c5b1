"""Some images of everything that belongs to a batch."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


def take(value: T, index: Tensor, batch: int) -> T:
    """What belongs to the images `index` of a batch.

    Objects that say what belongs to some images (`subset`) are asked. Else tensors whose first dimension is
    the batch are indexed, sequences and objects (dataclasses or not) taken apart; what is the same for every
    image stays: numbers, and tensors of other first dimensions.

    :param index: numbers of images, `(N,)`.
    """
    if isinstance(value, Tensor):
        each = value.ndim > 0 and value.shape[0] == batch
        return value.index_select(0, index) if each else value
    if isinstance(value, (tuple, list)):
        return type(value)(take(part, index, batch) for part in value)
    if hasattr(value, "subset"):
        return value.subset(index)
    if not hasattr(value, "__dict__"):
        return value
    taken = copy.copy(value)
    for name, part in vars(value).items():
        object.__setattr__(taken, name, take(part, index, batch))  # frozen dataclasses too
    return taken
