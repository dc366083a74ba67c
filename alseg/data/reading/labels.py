"""Files of labels; see `alseg.core.labelfiles`, where rooms below this one find them too."""

from alseg.core.labelfiles import LabelFile, check_labels, read_labels

__all__ = ["LabelFile", "check_labels", "read_labels"]
