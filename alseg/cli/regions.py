"""The command: ``python -m alseg.regions data=… [--shard 3/16]``, region maps before a run."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alseg.cli import command
from alseg.cli.folders import separate
from alseg.cli.help import explain
from alseg.core.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegionOptions:
    """Cuts the images of a run into regions, into the cache that runs share.

    The words are those of alseg.run. Several of these commands may work at once, on one machine or
    many, each on its share of the images; a run with the same words then finds the maps, makes what
    is missing and goes on. Weights that the run begins from are fetched as well.

    Attributes:
        shard: Which share, such as 3/16: every sixteenth image from the third on; null = all.
            Also written --shard 3/16.
    """

    shard: str | None = None

    def share(self) -> tuple[int, int]:
        """Index of the share, from 0, and number of shares.

        Raises:
            UserError: If they are none.
        """
        if self.shard is None:
            return 0, 1
        part, _, count = self.shard.partition("/")
        if not (part.isdecimal() and count.isdecimal() and 1 <= int(part) <= int(count)):
            raise UserError(f"shard is {self.shard!r}; give I/N with 1 <= I <= N, such as 3/16.")
        return int(part) - 1, int(count)


def cut(words: Sequence[str], given: RegionOptions) -> None:
    """Make the region maps of a run's images, or of a share of them.

    Raises:
        UserError: For options or images that cannot be used.
    """
    from alseg.cli.compose import options
    from alseg.cli.run import check, open_images
    from alseg.core.images import channels_of
    from alseg.regions.maps import extract_regions

    share = given.share()
    composed = options(*words)
    plan = check(composed)
    part: dict[str, Any] = composed.components
    splits = open_images(composed, plan)
    images = splits.train
    # not used here: what fetches weights keeps them
    part["network"].reading(channels_of(images)).build(len(images.classes))
    if part["regions"].unit == "pixel":
        print("This run asks about pixels, which need no maps; its weights are there.")
        return
    workers = composed.values["workers"]
    maps = extract_regions(part["regions"], images, plan.cache, workers, plan.progress, share)
    mine = len(range(share[0], len(images), share[1]))
    print(f"{mine} of {len(images)} images: {maps.version} in {plan.cache}")


def help_text() -> str:
    """What ``--help`` prints."""
    return explain(
        RegionOptions,
        "python -m alseg.regions [options of alseg.run] [--shard I/N]",
        ["python -m alseg.regions preset=experiments/mulquery/camvid.yaml --shard 3/16"],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""
    return command.main(
        arguments, lambda words: help_text(), lambda words: cut(*separate(RegionOptions, words))
    )
