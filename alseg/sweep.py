"""The command ``python -m alseg.sweep``; its work is in `alseg.cli.sweep`."""

import sys

from alseg.cli.sweep import main

if __name__ == "__main__":
    sys.exit(main())
