"""The command ``python -m alseg.predict``; its work is in `alseg.cli.predict`.

In a notebook: `load_segmenter` a checkpoint, then `predict_labels` of arrays.
"""

import sys

from alseg.cli.predict import main
from alseg.inference.trained import load_segmenter, predict_labels

__all__ = ["load_segmenter", "main", "predict_labels"]

if __name__ == "__main__":
    sys.exit(main())
