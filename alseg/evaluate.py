"""The command ``python -m alseg.evaluate``; its work is in `alseg.cli.evaluate`."""

import sys

from alseg.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
