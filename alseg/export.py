"""The command ``python -m alseg.export``; its work is in `alseg.cli.export`."""

import sys

from alseg.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
