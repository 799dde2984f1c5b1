"""What the command line says: cards of models, and how a solve can end short of its tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convexreg.solvers.solution import Status

SHORTFALLS = {
    Status.MAX_ITERATIONS: "the iteration limit was reached before the tolerance; the certificate says how "
    "good the result is. Raise --max-iter, or loosen --gap",
    Status.STAGNATED: "the image no longer changes at single precision, and the tolerance is not reached; "
    "the certificate says how good the result is. Loosen --gap",
}
"""In terms of the command's options; what else goes wrong raises."""


def card_text(card: Mapping[str, Any], indent: str = "  ") -> str:
    """The card of a model: one line for each entry, lists of sentences or of cards one for each item."""
    lines = []
    for key, value in card.items():
        title = f"{indent}{key.replace('_', ' ')}:"
        if isinstance(value, list) and value and isinstance(value[0], (str, Mapping)):
            lines += [title, *(f"{indent}  - {_short(item)}" for item in value)]
        else:
            lines.append(f"{title} {_short(value)}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    """A value on one line, without the punctuation of Python."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_short(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " / ".join(_short(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def table(cards: Mapping[str, Mapping[str, Any]]) -> str:
    """Models, one line each."""
    rows = [("model", "architecture", "rounds", "filters", "parameters", "noise levels")]
    for name, card in cards.items():
        levels = " to ".join(f"{255 * level:.3g}" for level in card["sigma_range"])
        rounds, filters = 2 if card["adaptive"] else 1, card["channels"][-1]
        parameters = str(card["parameters"])
        rows.append(
            (name, card["architecture"], str(rounds), str(filters), parameters, f"{levels} / 255")
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
