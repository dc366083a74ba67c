"""Networks trained by other code: its tensors under the names of ours, all of them accounted for.

Frameworks name the same layers differently. A table says which part of their network is which of
ours, by the beginnings of names; inside a part tensors are matched by name where all names are the
same, and else one by one in the order in which the layers were made, if kind and shape of every
single one agree. (Two layers alike in both could still have changed places: what was matched in
order is told, and a converted network is to be evaluated before it is believed. A .safetensors
file keeps no order, and its parts match by name alone.) What is left over on either side is an
error.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from alseg.core.errors import UserError
from alseg.nn.weights import fit, is_count, unwrapped

if TYPE_CHECKING:
    from alseg.nn.segmenter import Segmenter

#: Beginnings of their names -> beginnings of ours, in the order of the layers.
Table = Mapping[str, Sequence[str]]

_ENCODER, _HEAD = ("encoder",), ("decoder", "classifier")
#: Layouts of networks in common frameworks.
TABLES: dict[str, Table] = {
    "alseg": {"encoder": _ENCODER, "decoder": ("decoder",), "classifier": ("classifier",)},
    "segmentation_models_pytorch": {
        "encoder": _ENCODER, "decoder": ("decoder",), "segmentation_head": ("classifier",),
    },
    "torchvision": {"backbone": _ENCODER, "classifier": _HEAD},
    "deeplabv3plus": {
        "backbone": _ENCODER, "classifier.aspp": ("decoder.aspp",),
        "classifier.project": ("decoder.low",),
        "classifier.classifier": ("decoder.join", "classifier"),
    },
    "deeplabv2": {"base.aspp": ("classifier",), "base": _ENCODER},
}  # fmt: skip
#: Modules that hold a network when it is saved, in front of all names.
_HOLDERS = ("_orig_mod.", "module.", "model.", "network.", "net.")
#: Parts that are for training alone, or for another task.
UNUSED = ("aux_classifier.*", "backbone.fc.*", "backbone.classifier.*", "*.num_batches_tracked")
_SHOWN = 5


@dataclass(frozen=True)
class Conversion:
    """Tensors of a file under the names of a network of ours.

    Attributes:
        found: Tensors by our names.
        by_order: Parts of ours whose names differ from the file's, matched in order.
        unused: Names in the file that are left out on purpose.
        problems: What does not fit, in clauses; empty = everything does.
    """

    found: dict[str, Tensor]
    by_order: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class _Ignored:
    """What stands for numbers of NumPy beside the weights, such as the best mIoU."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


@contextmanager
def _numbers_ignored() -> Iterator[None]:
    """Let torch read files in which numbers of NumPy are, without making these."""
    names = ["numpy.dtype"]
    names += [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]
    with torch.serialization.safe_globals([(_Ignored, name) for name in names]):
        yield


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a file by name, without what they are wrapped in; no code in it is run.

    Args:
        path: What ``torch.save`` wrote, under any ending (.pth, .tar, .pt), or .safetensors.

    Raises:
        UserError: If it cannot be read, holds code, or no tensors by name.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            with _numbers_ignored():
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own kinds
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line), "")
        reason = reason.strip() or next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"cannot read weights from {path} ({reason[:200]}); only tensors are read of it, and "
            f"nothing that may be code: where you trust the file, load it with the authors' code "
            f"and write torch.save(model.state_dict(), PATH)."
        ) from error
    state = unwrapped(content)
    if not state:
        raise UserError(
            f"{path} holds no tensors by name; give what torch.save(model.state_dict(), PATH) "
            f"wrote, alone or in a dictionary as state_dict, model_state_dict or model."
        )
    return state


def convert(
    path: Path,
    build: Callable[[int], "Segmenter"],
    classes: int,
    table: Table | None = None,
    unused: Sequence[str] = (),
    outputs: Sequence[int] | None = None,
) -> tuple["Segmenter", Conversion]:
    """Build a network and fill it with the tensors of a file.

    Args:
        path: See `read_state`.
        build: Makes the network with a number of outputs.
        classes: C, the outputs at least.
        table: Which part is which; None = whichever of `TABLES` fits.
        unused: Names in the file that are left out, such as ``*loss_pred*``, besides `UNUSED`.
        outputs: Which outputs of the file are ours, in the order of ours; None = all, in theirs.

    Returns:
        The network, and how it was filled.

    Raises:
        UserError: If the file cannot be read, or anything in it or in the network is left over.
    """
    state = read_state(path)
    tables = TABLES if table is None else {"the table that was given": table}
    tried: dict[str, Conversion] = {}
    for name, candidate in tables.items():
        bare = _without_holder(state, candidate)
        rows = _rows(bare, candidate)
        count = rows if outputs is None else len(outputs)
        if rows is None or count is None:
            continue
        if count < classes or (outputs is not None and max(outputs, default=0) >= rows):
            tried[name] = Conversion({}, problems=[f"its classifier has {rows} outputs"])
            continue
        network = build(count)
        chosen = _with_outputs(bare, candidate, outputs)
        found = match(chosen, network.state_dict(), candidate, [*UNUSED, *unused])
        if not found.problems:
            network.load_state_dict(found.found, strict=False)  # files may lack counts of batches
            return network, found
        tried[name] = found
    if not tried:
        known = "; ".join(f"{name}: {', '.join(one)}" for name, one in tables.items())
        raise UserError(
            f"{path} has none of the names that are known ({known}), but such as "
            f"{', '.join(list(state)[:_SHOWN])}; give names=FILE.yaml, which says what is what."
        )
    name, best = min(tried.items(), key=lambda pair: len(pair[1].problems))
    more = f"; and {len(best.problems) - _SHOWN} more" if len(best.problems) > _SHOWN else ""
    raise UserError(
        f"{path} does not fit {classes} classes of this network, named as by {name}: "
        f"{'; '.join(best.problems[:_SHOWN])}{more}. Choose the network it is of, say what is what "
        f"by names=FILE.yaml, or leave out what belongs to another part by unused=[NAME,...]."
    )


def match(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    table: Table,
    unused: Sequence[str] = UNUSED,
) -> Conversion:
    """Give the tensors of a file the names of ours; see the head of this file.

    Args:
        state: Theirs.
        own: Ours.
        table: Which part is which.
        unused: Names of theirs that are left out, with ``*`` for any text.
    """
    made = Conversion({})
    parts: dict[str, dict[str, Tensor]] = {key: {} for key in table}
    for name, tensor in state.items():
        key = _part_of(name, table)
        if any(fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") for pattern in unused):
            made.unused.append(name)
        elif key is None:
            made.problems.append(f"{name} {tuple(tensor.shape)} belongs to no part")
        else:
            parts[key][name[len(key) + 1 :]] = tensor
    left = {name for name in own if not is_count(name)}
    for key, theirs in parts.items():
        ours = {
            name: own[name]
            for target in table[key]
            for name in own
            if name.startswith(f"{target}.") and not is_count(name)
        }
        left -= ours.keys()
        _match_part(made, key, theirs, ours, table[key])
    made.problems.extend(f"nothing is given for {name}" for name in sorted(left))
    return made


def _match_part(
    made: Conversion,
    key: str,
    theirs: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    targets: Sequence[str],
) -> None:
    """Match the tensors of one part by name, or in order."""
    if len(targets) == 1:
        bare = {name[len(targets[0]) + 1 :]: tensor for name, tensor in ours.items()}
        by_name = fit(theirs, bare)
        if by_name.count == len(ours) == len(theirs):
            made.found.update({f"{targets[0]}.{n}": one for n, one in by_name.found.items()})
            return
    pairs = list(zip(theirs.items(), ours.items(), strict=False))
    for (name, tensor), (own_name, own_tensor) in pairs:
        kind = name.rpartition(".")[2]
        value = _shaped(tensor, own_tensor.shape)
        if kind != own_name.rpartition(".")[2] or value is None:
            made.problems.append(
                f"{key}.{name} {tuple(tensor.shape)} stands where {own_name} "
                f"{tuple(own_tensor.shape)} should"
            )
            return
        made.found[own_name] = value
    if len(theirs) != len(ours):
        made.problems.append(
            f"{key} has {len(theirs)} tensors, {' and '.join(targets)} {len(ours)}"
        )
    elif theirs:
        made.by_order.append(f"{key} -> {' and '.join(targets)}")


def _shaped(tensor: Tensor, shape: torch.Size) -> Tensor | None:
    """A tensor in a shape that differs by sides of 1 alone; None where it differs by more."""
    if [side for side in tensor.shape if side != 1] != [side for side in shape if side != 1]:
        return None
    return tensor.reshape(shape)


def _part_of(name: str, table: Table) -> str | None:
    """The part a name belongs to, the one with the longest beginning."""
    keys = [key for key in table if name.startswith(f"{key}.")]
    return max(keys, key=len, default=None)


def _without_holder(state: Mapping[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Names without the modules that held the network, where that makes most of them known."""
    held = {""}
    for name in state:
        prefix = ""
        while part := next((p for p in _HOLDERS if name.startswith(p, len(prefix))), None):
            prefix += part
            held.add(prefix)

    def known(prefix: str) -> int:
        bare = (name[len(prefix) :] for name in state if name.startswith(prefix))
        return sum(_part_of(name, table) is not None for name in bare)

    best = max(sorted(held, key=len), key=known)
    return {name.removeprefix(best): tensor for name, tensor in state.items()}


def _classifier(state: Mapping[str, Tensor], table: Table) -> list[str]:
    """Names in the file of the weights, and biases, of the classifier.

    Of a part that is the decoder as well, these are those of its last layer.
    """
    key = next((key for key, targets in table.items() if targets[-1] == "classifier"), None)
    names = [name for name in state if _part_of(name, table) == key and not is_count(name)]
    weights = [name for name in names if state[name].ndim >= 2]
    if key is None or not weights:
        return []
    if len(table[key]) == 1:
        return names
    layer = weights[-1].rpartition(".")[0]
    return [name for name in names if name.rpartition(".")[0] == layer]


def _rows(state: Mapping[str, Tensor], table: Table) -> int | None:
    """Outputs of the network in a file; None where a part of the table is not there."""
    if not all(any(_part_of(name, table) == key for name in state) for key in table):
        return None
    last = _classifier(state, table)
    return int(state[last[0]].shape[0]) if last else None


def _with_outputs(
    state: Mapping[str, Tensor], table: Table, outputs: Sequence[int] | None
) -> Mapping[str, Tensor]:
    """The same with some outputs of the classifier."""
    if outputs is None:
        return state
    last = set(_classifier(state, table))
    rows = torch.tensor(list(outputs))
    return {name: one[rows] if name in last else one for name, one in state.items()}
