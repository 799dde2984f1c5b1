"""The documentation says what is there: modules, messages, tutorials, links, commands, examples."""

from __future__ import annotations

import doctest
import pkgutil
import re
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import convexreg

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


@pytest.fixture
def extensions():
    """Imports an extension of the site, which has no package."""

    def load(name):
        specification = spec_from_file_location(name, DOCS / "extensions" / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        module = module_from_spec(specification)
        specification.loader.exec_module(module)
        return module

    return load


def modules(package) -> set[str]:
    found = set()
    for entry in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        child = import_module(entry.name)
        found |= modules(child) if entry.ispkg else {entry.name}
    return found


def test_every_module_is_in_the_reference(extensions):
    pages = extensions("reference").pages()
    listed = [module for page in pages.values() for module in page]
    assert len(listed) == len(set(listed))
    commands = {name for name in modules(convexreg) if name.startswith("convexreg.cli.")}
    assert set(listed) == modules(convexreg) - commands - {"convexreg.__main__", "convexreg.files"}
    index = (DOCS / "api" / "index.rst").read_text()
    assert set(re.findall(r"^   ([a-z]+)$", index, flags=re.M)) == set(pages)


def test_messages_of_the_questions_are_those_of_the_package():
    sources = [*ROOT.glob("convexreg/**/*.py"), *ROOT.glob("solvers/*.py")]
    text = " ".join(path.read_text() for path in sources)
    text = re.sub(r'"\s+f?"', "", text)  # strings go on over lines
    quoted = re.findall(r"^`([^`]+)`\n: ", (DOCS / "faq.md").read_text(), flags=re.M)
    assert len(quoted) > 8
    for message in set(quoted) - {"pip"}:
        assert message in text, message


@pytest.mark.parametrize("name", ["python.md", "models.md"])
def test_python_examples(name):
    outcome = doctest.testfile(str(DOCS / name), module_relative=False)
    assert outcome.attempted > 5
    assert outcome.failed == 0


def test_tutorials_have_an_order(extensions):
    order = extensions("reading_order").ReadingOrder("")
    files = [path.name for path in ROOT.glob("examples/*.py")]
    assert sorted(map(order, files)) == list(range(len(files)))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        if target == "gallery/index":  # made of the examples
            continue
        place = page.parent / target
        assert place.exists() or place.with_suffix(".rst").exists(), target


def test_commands_of_the_pages_exist(capsys):
    from convexreg.cli.parser import parser

    written = "".join(page.read_text() for page in PAGES)
    commands = set(re.findall(r"^convexreg ([a-z]+)", written, flags=re.M))
    assert len(commands) > 6
    for name in commands:
        with pytest.raises(SystemExit) as ended:
            parser().parse_args([name, "--help"])
        assert ended.value.code == 0
        options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
        for line in re.findall(rf"^convexreg {name} .*$", written, flags=re.M):
            used = set(re.findall(r"--[a-z][a-z-]*", line.split("#")[0])) - {"--help"}
            assert used <= options, line


def test_every_dependency_has_its_reason():
    metadata = (ROOT / "pyproject.toml").read_text()
    required = set(re.findall(r'^  "([\w.-]+)[>=]', metadata, flags=re.M))
    required |= set(re.findall(r'"([\w.-]+)(?:>=|==)[^"]*"', metadata))
    rows = re.findall(r"^\| `([\w.-]+)` \| \S", (DOCS / "dependencies.md").read_text(), flags=re.M)
    assert sorted(rows) == sorted(required)
