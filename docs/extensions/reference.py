"""The pages of the reference, written from what modules there are."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_PAGES = {
    "reconstruction": (
        "Reconstruction",
        "What `reconstruct` does, and its parts: the problem, its start, weight and noise.",
        ("restoration", "reconstruction"),
    ),
    "plugin": (
        "In deepinv",
        "The regularizer as a prior, a denoiser and a reconstructor of deepinv.",
        ("plugin",),
    ),
    "regularizers": (
        "Regularizers and models",
        "`R(x; sigma)`, by name, from files, adaptive.",
        ("regularizer", "adaptive", "models"),
    ),
    "training": ("Training", "Objectives, data, the run.", ("training",)),
    "networks": (
        "Networks",
        "Gradient networks and what they are made of: operators with exact adjoints and proven norms, "
        "convex potentials, noise conditioning.",
        ("networks",),
    ),
    "solvers": (
        "Solvers",
        "Objectives, certificates, the loop and its methods. They know nothing of the rest, and work for any "
        "smooth convex objective.",
        ("solvers",),
    ),
    "pictures": ("Pictures", "Image files as people have them, noise, kernels.", ("pictures",)),
}
"""Title, what is there, and modules and packages of `convexreg`, by file."""


def modules(name: str) -> list[str]:
    """A module, or all of a package and of those within it."""
    path = getattr(importlib.import_module(name), "__path__", None)
    if path is None:
        return [name]
    found = [f"{name}.{entry.name}" for entry in pkgutil.iter_modules(path)]
    return [module for child in sorted(found) for module in modules(child)]


def pages() -> dict[str, list[str]]:
    """The modules of every page."""
    return {
        file: [module for root in roots for module in modules(f"convexreg.{root}")]
        for file, (_, _, roots) in _PAGES.items()
    }


def _write(app: Sphinx) -> None:
    for file, listed in pages().items():
        title, introduction, _ = _PAGES[file]
        parts = [title, "=" * len(title), "", introduction, ""]
        for module in listed:
            short = module.removeprefix("convexreg.")
            parts += [short, "-" * len(short), "", f".. automodule:: {module}", ""]
        path, text = Path(app.srcdir, "api", f"{file}.rst"), "\n".join(parts)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("config-inited", lambda app, config: _write(app))
    return {"parallel_read_safe": True}
