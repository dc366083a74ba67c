"""What the images and masks of a run hold: a digest of each, so that a change can be named."""

from collections.abc import Mapping
from hashlib import blake2b

from alseg.core.errors import UserError
from alseg.core.images import ImageSet, Splits, truth_fingerprint

#: Digest of each file by its name, for the images and the masks of both splits.
Contents = dict[str, dict[str, str]]

#: What the parts of `Contents` are called.
WORDS = {
    "train": "training images",
    "train_masks": "masks of training images",
    "val": "validation images",
    "val_masks": "masks of validation images",
    "choice": "images checkpoints are chosen on",
    "choice_masks": "masks of images checkpoints are chosen on",
}
#: Names told of each kind of change.
NAMES = 5


def contents_of(splits: Splits) -> Contents:
    """Digests of all images and masks; of windows, those of the files they are cut from."""
    contents: Contents = {}
    parts = {"train": splits.train, "val": splits.val}
    chosen_on: ImageSet | None = getattr(splits, "choice", None)
    if chosen_on is not None:
        parts["choice"] = chosen_on
    for part, images in parts.items():
        files: ImageSet = getattr(images, "sources", images)
        named = list(enumerate(files.names))
        contents[part] = {name: files.fingerprint(index)[:16] for index, name in named}
        truth = {name: truth_fingerprint(files, index)[:16] for index, name in named}
        contents[f"{part}_masks"] = {name: digest for name, digest in truth.items() if digest}
    return contents


def digest_of(contents: Mapping[str, str]) -> str:
    """One digest of a part of `Contents`."""
    text = "\n".join(f"{name}\0{digest}" for name, digest in sorted(contents.items()))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def differences(old: Contents, new: Contents) -> list[str]:
    """What has changed, was added and is gone, a sentence per part that differs.

    >>> differences({"train": {"a": "1", "b": "2"}}, {"train": {"a": "3", "c": "4"}})
    ['training images: 1 changed (a), 1 added (c), 1 gone (b)']
    """
    sentences = []
    for part, words in WORDS.items():
        before, now = old.get(part, {}), new.get(part, {})
        kinds = {
            "changed": [n for n in before if n in now and before[n] != now[n]],
            "added": [n for n in now if n not in before],
            "gone": [n for n in before if n not in now],
        }
        told = [f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names]
        if told:
            sentences.append(f"{words}: {', '.join(told)}")
    return sentences


def refuse_changes(where: str, old: Contents, new: Contents) -> None:
    """Refuse files that are others than those a run began with.

    Args:
        where: The run folder.
        old: What it began with.
        new: What is there now.

    Raises:
        UserError: Naming what differs.
    """
    told = differences(old, new)
    if told:
        raise UserError(
            f"the files of the run in {where} are no longer those it began with, so that its "
            f"answers and scores before and after would not be about the same truth: "
            f"{'; '.join(told)}. Restore them, or give another run_dir; labels_from={where} there "
            f"owns what was answered here."
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMES]) + ", ..." * (len(names) > NAMES)
