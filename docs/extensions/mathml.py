"""Formulas as MathML, which browsers draw themselves: no script, no network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

_TIGHT = re.compile(r"<mo[^>]*>([|‖⟨⟩/])</mo>")
"""Bars, brackets and slashes, which browsers would stretch and space as relations."""


def _mathml(tex: str, *, block: bool = False) -> str:
    tight = r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>'
    return _TIGHT.sub(tight, tex2mathml(tex, as_block=block))


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_mathml(node.astext()))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True}
