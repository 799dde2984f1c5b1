"""One copy of the solvers in a process, whatever lies beside the user's script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import convexreg

HOME = Path(convexreg.__file__).parents[1]


def run(program: str, folder: Path) -> None:
    """As a script that lies in `folder`, which is first in the path, and this repository last."""
    text = f"import sys; sys.path.append({str(HOME)!r})\n{program}"
    (folder / "program.py").write_text(text)
    subprocess.run([sys.executable, str(folder / "program.py")], check=True, cwd=folder)


def test_importing_loads_nothing_heavy(tmp_path: Path) -> None:
    """Nor do the solvers; deepinv comes with the classes built on it."""
    run(
        "import convexreg, convexreg.solvers\n"
        "heavy = {'deepinv', 'matplotlib', 'skimage', 'scipy', 'imagecodecs'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "convexreg.ConvexPrior\n"
        "assert 'deepinv' in sys.modules",
        tmp_path,
    )


def test_the_classes_built_on_deepinv_are_listed() -> None:
    assert {"ConvexPrior", "ConvexDenoiser", "ConvexReconstructor"} <= set(dir(convexreg))
    assert set(convexreg.__all__) <= set(dir(convexreg))


def test_there_is_one_copy_of_the_solvers(tmp_path: Path) -> None:
    """With every module of the product and the benchmarks imported."""
    run(
        "import importlib, pkgutil, benchmarks, convexreg\n"
        "for package in (convexreg, benchmarks):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not module.name.endswith('__main__'):\n"
        "            importlib.import_module(module.name)\n"
        "assert 'solvers' not in sys.modules\n"
        "import gc, convexreg.solvers.box\n"
        "boxes = [c for c in gc.get_objects() if isinstance(c, type) and c.__name__ == 'Box'\n"
        "         and c.__module__.endswith('solvers.box')]\n"
        "assert boxes == [convexreg.solvers.Box], boxes",
        tmp_path,
    )


@pytest.mark.parametrize("beside", ["solvers.py", "solvers/__init__.py"])
def test_a_namesake_beside_the_script_is_no_harm(beside: str, tmp_path: Path) -> None:
    """It comes first in the path."""
    namesake = tmp_path / beside
    namesake.parent.mkdir(exist_ok=True)
    namesake.write_text("mine = True\n")
    run(
        "import solvers, convexreg, convexreg.solvers\n"
        "assert solvers.mine and not hasattr(solvers, 'Box')\n"
        "assert convexreg.solvers.Box and convexreg.ConvexPrior",
        tmp_path,
    )
