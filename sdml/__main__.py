"""``python -m sdml`` is the `sdml` command."""

import sys

from sdml.cli import main

if __name__ == "__main__":
    sys.exit(main())
