"""The card of a model - how it was trained, on what, what it reaches - as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_text(card: Mapping[str, Any], indent: str = "  ") -> str:
    """One line for each entry; lists of sentences or of further cards get one for each item."""
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
