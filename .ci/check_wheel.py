"""Fails unless a wheel installs one top-level package, with the solvers inside.

`python check_wheel.py WHEEL`
"""

import sys
import zipfile

names = zipfile.ZipFile(sys.argv[1]).namelist()
tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
solvers = [name for name in names if name.startswith("convexreg/solvers/")]
assert tops == {"convexreg"}, f"top-level packages: {tops}"
assert "convexreg/solvers/loop.py" in solvers, "the solvers are not in the wheel"
assert "convexreg/py.typed" in names, "py.typed is not in the wheel"
print(f"{len(names)} files, {len(solvers)} of the solvers")
