"""`python -m qurate` is the command `qurate`."""

import sys

from qurate.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
