"""The command ``python -m alseg.label``; its work is in `alseg.cli.label`."""

import sys

from alseg.cli.label import main

if __name__ == "__main__":
    sys.exit(main())
