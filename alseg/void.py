"""The one label that is not a class."""

#: Label of pixels that have no class: not labelled, not asked, or void in the ground truth.
#: Label maps are uint8, so a task has at most 255 classes, with ids 0..254.
VOID = 255
