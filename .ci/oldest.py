"""Prints constraints for the oldest versions that a project's metadata allows.

`python oldest.py pyproject.toml`
"""

import re
import sys
from pathlib import Path

for name, version in re.findall(r'"([\w.-]+)>=([\w.]+)[^"]*"', Path(sys.argv[1]).read_text()):
    if name not in ("hatchling", "pyright"):  # tools, not what users run
        print(f"{name}=={version}")
