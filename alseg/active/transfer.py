"""Tables from a device to the host, for which the host waits once."""

from collections.abc import Mapping

import torch
from torch import Tensor


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
