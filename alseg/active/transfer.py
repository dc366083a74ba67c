"""Tables from a device to the host, for which the host waits once."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

#: Key of what a batch keeps on the host; arrays do not travel with its tensors.
HOST = "host"


def on_host(tables: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Tables with all columns on the CPU.

    Columns of one device travel as one packet of bytes, since the host waits for each transfer.

    Args:
        tables: By name, then by column.

    Returns:
        The same tables and columns, detached.
    """
    places = [(name, key) for name, table in tables.items() for key in table]
    columns = {(name, key): tables[name][key].detach() for name, key in places}
    for device in {c.device for c in columns.values() if c.device.type != "cpu"}:
        away = {place: c for place, c in columns.items() if c.device == device}
        values = list(away.values())
        columns |= dict(zip(away, unpacked(packed(values).cpu(), values), strict=True))
    return {name: {key: columns[name, key] for key in table} for name, table in tables.items()}


def kept_on_host(batch: Mapping[str, Tensor], *names: str) -> dict[str, Any]:
    """A batch that also has some of its tensors as arrays, under `HOST`, before it travels."""
    return {**batch, HOST: {name: batch[name].numpy() for name in names}}


def host_array(batch: Mapping[str, Any], name: str) -> NDArray[Any]:
    """A part of a batch as the host has kept it; where it has not, it waits for a device."""
    kept = batch.get(HOST, {})
    found: NDArray[Any] = kept[name] if name in kept else batch[name].cpu().numpy()
    return found


def image_indices(batch: Mapping[str, Any]) -> list[int]:
    """Image indices of a batch, see `host_array`."""
    indices: list[int] = host_array(batch, "index").tolist()
    return indices


def packed(columns: list[Tensor]) -> Tensor:
    """The bytes of tensors of one device behind one another, uint8."""
    return torch.cat([c.contiguous().reshape(-1).view(torch.uint8) for c in columns])


def unpacked(packet: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Tensors from their bytes on the CPU.

    Args:
        packet: From `packed`.
        like: Tensors of the same types and shapes.
    """
    found, start = [], 0
    for column in like:
        end = start + column.numel() * column.element_size()
        own = torch.empty(column.shape, dtype=column.dtype)
        own.view(-1).view(torch.uint8).copy_(packet[start:end])
        found.append(own)
        start = end
    return found
