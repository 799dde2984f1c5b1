"""What Sphinx has to know of the docstrings here: formulas are indented, and names stand in backticks."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

import convexreg
import convexreg.solvers

_ELSEWHERE = {
    "torch.Tensor": "https://docs.pytorch.org/docs/stable/tensors.html#torch.Tensor",
    "torch.nn.Module": "https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html",
    "torch.device": "https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.device",
    "torch.dtype": "https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.dtype",
    "numpy.ndarray": "https://numpy.org/doc/stable/reference/generated/numpy.ndarray.html",
    "pathlib.Path": "https://docs.python.org/3/library/pathlib.html#pathlib.Path",
    "matplotlib.axes.Axes": "https://matplotlib.org/stable/api/_as_gen/matplotlib.axes.Axes.html",
}
"""Addresses of types that are not ours, so that a build needs no network."""
_STANDS_ALONE = {"class", "function", "exception"}
_PUBLIC = {*convexreg.__all__, *convexreg.solvers.__all__}
_ITEM = re.compile(r"\s*(- |\* |:\w|\d+\. |\.\. )")


def _formulas(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Indented paragraphs are formulas: literal blocks."""
    written, inside, item = [], False, False
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        after_blank = number == 0 or not lines[number - 1].strip()
        if line.strip():
            if indent == 0:
                inside, item = False, bool(_ITEM.match(line))
            elif after_blank and not inside and not item:
                written += ["::", ""]
                inside = True
        written.append(line)
    lines[:] = written


def _bases(app: Sphinx, name: str, thing: Any, options: Any, bases: list[type]) -> None:
    """Without `object`, of which every class is one."""
    bases[:] = [base for base in bases if base is not object]


def _resolved(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """A link for a name that says enough to be found, though not from where."""
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"]).removesuffix("()")
    for name, address in _ELSEWHERE.items():
        if target in (name, name.rpartition(".")[2]):
            return nodes.reference("", "", content, internal=False, refuri=address)
    found = _found(env, target)
    if found is None:
        return None
    page, anchor, title = found
    return make_refnode(app.builder, node["refdoc"], page, anchor, content, title)


def _found(env: BuildEnvironment, target: str) -> tuple[str, str, str] | None:
    if not re.fullmatch(r"[A-Za-z_][\w.]*", target):
        return None
    objects = env.domains.python_domain.objects
    last = target.rpartition(".")[2]
    alone = last == target
    if alone and target not in _PUBLIC and "_" not in target and target.islower():
        return None  # a variable
    matches = [name for name in objects if f".{name}".endswith(f".{target}")]
    if not matches and target.split(".")[0] in ("convexreg", "solvers"):  # where it is exported
        matches = [name for name in objects if name.endswith(f".{last}")]
        alone = True
    if alone:
        matches = [name for name in matches if objects[name].objtype in _STANDS_ALONE]
    if len(matches) != 1:
        return None
    entry = objects[matches[0]]
    return entry.docname, entry.node_id, matches[0]


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _formulas)
    app.connect("autodoc-process-bases", _bases)
    app.connect("missing-reference", _resolved)
    return {"parallel_read_safe": True}
