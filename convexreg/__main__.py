"""`python -m convexreg` is the command line."""

import sys

from convexreg.cli.parser import main

if __name__ == "__main__":
    sys.exit(main())
