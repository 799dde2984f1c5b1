"""Links of the repository as links of the site, and pages that are files of the repository's root."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

_ROOT = Path(__file__).resolve().parent.parent.parent
_PAGES = {
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "benchmarks": "benchmarks/README.md",
}
"""Pages that hold a link to that file, instead of which the site has the file itself."""


def _adapted(app: Sphinx, page: str, source: list[str]) -> None:
    if page in _PAGES:
        file = _ROOT / _PAGES[page]
        app.env.note_dependency(file)
        source[0] = file.read_text(encoding="utf-8")
    text = source[0]
    for name, file in _PAGES.items():
        text = re.sub(rf"\]\((\.\./)?{re.escape(file)}\)", f"]({name}.md)", text)
    text = re.sub(r"\]\((\.\./)?examples/(\w+)\.py\)", r"](gallery/\2)", text)
    source[0] = text.replace("](docs/", "](") if page in _PAGES else text


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", _adapted)
    return {"parallel_read_safe": True}
