"""Values of options, checked while the command line is read."""

from __future__ import annotations

import argparse
import math

import torch

_LARGEST_FACTOR = 32
_LARGEST_COUNT, _LARGEST_NUMBER = 2**31 - 1, torch.finfo(torch.float32).max
"""What the libraries below take."""


def positive(text: str) -> float:
    """A positive number.

    :raises argparse.ArgumentTypeError: it is not.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return _representable(value)


def nonnegative(text: str) -> float:
    """A number of at least zero.

    :raises argparse.ArgumentTypeError: it is not.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text!r}")
    return _representable(value)


def seed(text: str) -> int:
    """A whole number that generators of random numbers take.

    :raises argparse.ArgumentTypeError: it is not.
    """
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be a whole number below 2^63, got {text!r}")
    return int(text)


def white(text: str) -> float | str:
    """A positive number, or "auto".

    :raises argparse.ArgumentTypeError: neither.
    """
    return text if text == "auto" else positive(text)


def count(text: str) -> int:
    """A whole number of at least one.

    :raises argparse.ArgumentTypeError: it is not.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    if int(text) > _LARGEST_COUNT:
        raise argparse.ArgumentTypeError(f"must be at most {_LARGEST_COUNT}, got {text!r}")
    return int(text)


def factor(text: str) -> int:
    """How many times a photograph is enlarged.

    :raises argparse.ArgumentTypeError: no whole number, or one for which there is nothing to see.
    """
    value = count(text)
    if value > _LARGEST_FACTOR:
        raise argparse.ArgumentTypeError(f"must be at most {_LARGEST_FACTOR}, got {value}")
    return value


def device(name: str) -> str:
    """The name of a device that is there.

    :raises argparse.ArgumentTypeError: it is not.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        why = "" if reason.startswith("Expected one of") else f" ({reason})"
        raise argparse.ArgumentTypeError(
            f"cannot compute on {name!r}{why}; devices are cpu, cuda, cuda:1, mps"
        ) from error
    return name


def _representable(value: float) -> float:
    if value > _LARGEST_NUMBER:
        raise argparse.ArgumentTypeError(f"must be at most {_LARGEST_NUMBER:.2g}, got {value:g}")
    return value
