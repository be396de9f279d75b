"""`python -m processing.container.shim`: the command, if no program `processing-shim` is on the PATH."""

import sys

from processing.container.shim.commands import main

if __name__ == "__main__":
    sys.exit(main())
