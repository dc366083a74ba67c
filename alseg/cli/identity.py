"""Whose a run folder is: everything that decides the result of a run, and the folder's claim."""

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.cli.compose import GROUPS, Options
from alseg.cli.words import defaults_of
from alseg.core.images import DataSplits
from alseg.core.typed import plain

if TYPE_CHECKING:  # torch takes seconds to import
    from pathlib import Path

    from alseg.active.contents import Contents
    from alseg.active.ledger import Ledger
    from alseg.active.run import Run
    from alseg.regions.maps import RegionMaps


def identity(options: Options) -> dict[str, Any]:
    """Everything that decides the result of a run, flat, see `alseg.core.options.FREE`."""
    chosen = {name: choice for name, choice in options.choices.items() if GROUPS[name].identity}
    return chosen | _deciding(options, options.values)


def default_identity(options: Options) -> dict[str, Any]:
    """The defaults of what decides the result of a run.

    The folder of a run of an older release knows nothing of options that are new in this one; what
    they do by default is what that release did.
    """
    values: dict[str, Any] = {}
    for name, component in options.components.items():
        defaults = plain(defaults_of(type(component)))
        values |= defaults if name == "run" else {name: defaults}
    return _deciding(options, values)


def _deciding(options: Options, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the options that belong to the identity of a run, entries of dictionaries flat."""
    flat: dict[str, Any] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{name}.{key}", inner)
        else:
            flat[name] = value

    for name, component in options.components.items():
        if name in GROUPS and not GROUPS[name].identity:
            continue
        for option in fields(component):
            if option.metadata.get("identity", True):
                of_run = name == "run"
                full = option.name if of_run else f"{name}.{option.name}"
                walk(full, (values if of_run else values[name])[option.name])
    return flat


class Claim(NamedTuple):
    """What a run folder is claimed with.

    Attributes:
        owner: Everything that decides the result, flat.
        defaults: Values of options that the folder of an older release may not know.
        contents: Digests of the images and masks.
        maps: How the images are cut; None where pixels are asked about.
    """

    owner: dict[str, Any]
    defaults: dict[str, Any]
    contents: "Contents"
    maps: "RegionMaps | None"


def look(
    options: Options,
    splits: DataSplits,
    ledger: "Ledger",
    rounds: int,
    cache: "Path",
    progress: bool,
    listed: NDArray[np.int64] | None = None,
) -> Claim:
    """Cut the images into regions, or find the maps, and see that a folder is free or this run's.

    Args:
        options: Those of the command.
        splits: The images.
        ledger: Of the folder.
        rounds: How many the run has.
        cache: Folder that runs share.
        progress: Show progress.
        listed: The images whose masks are bought, where a file lists them.

    Raises:
        UserError: If it belongs to another run.
    """
    from alseg.active.contents import contents_of, digest_of
    from alseg.core.masks import table_of
    from alseg.regions.maps import extract_regions

    part = options.components
    owner, defaults = identity(options), default_identity(options)
    if part["method"].plans_rounds:
        owner["rounds"] = rounds
    if listed is not None:
        owner["query.images"] = hashlib.blake2b(listed.tobytes()).hexdigest()[:16]
    table = table_of(splits.train).summary()
    ledger.check_owner(owner | {"masks": table}, defaults | {"masks": table})
    contents = contents_of(splits)
    ledger.check_contents(contents)
    owner |= {"train": _content(splits.train), "val": _content(splits.val)}
    chosen_on = getattr(splits, "choice", None)
    if chosen_on is not None:
        owner["choice"] = _content(chosen_on)
    masks = ("train_masks", "val_masks", "choice_masks")
    truth = {name: digest_of(contents[name]) for name in masks if name in contents}
    owner |= truth | {"masks": table}
    defaults |= truth | {"masks": table}  # folders of release 0.1 know nothing of masks
    ledger.check_owner(owner, defaults)
    if part["regions"].unit == "pixel":  # pixels need no map
        return Claim(owner, defaults, contents, None)
    workers = options.values["workers"]
    maps = extract_regions(part["regions"], splits.train, cache, workers, progress)
    # answers name regions by their ids: maps cut by another release must not slip in
    owner["regions.counts"] = hashlib.blake2b(maps.num_regions.tobytes()).hexdigest()[:16]
    ledger.check_owner(owner, defaults)
    return Claim(owner, defaults, contents, maps)


def claim(run: "Run", found: Claim) -> None:
    """Make the folder of a run its own, and its maps those of the pool.

    Raises:
        UserError: If it belongs to another run.
    """
    from alseg.active.inheritance import POOL, describe_pool
    from alseg.active.owned import drop_owned

    if found.maps is not None:
        run.pool.add_maps(found.maps)
        run.regions = found.maps.version
    run.ledger.claim(found.owner, found.defaults, forget=lambda: drop_owned(run.root))
    run.ledger.claim_contents(found.contents)
    path, about = run.root / POOL, describe_pool(run.splits.train, found.maps)
    if run.ledger.writes and (not path.exists() or run.ledger.read_json(path) != about):
        run.ledger.write_json(path, about)


def _content(images: Any) -> str:
    """Digest of the pixels of a split."""
    prints = "".join(images.fingerprint(index) for index in range(len(images)))
    return hashlib.blake2b(prints.encode(), digest_size=16).hexdigest()
