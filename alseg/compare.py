"""The command ``python -m alseg.compare``; its work is in `alseg.cli.compare`."""

import sys

from alseg.cli.compare import main

if __name__ == "__main__":
    sys.exit(main())
