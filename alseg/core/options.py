"""How a component declares its options."""

from collections.abc import Mapping
from types import MappingProxyType

#: Metadata of a field, ``field(default=2, metadata=FREE)``: the option may change between two
#: starts of one run, because it says where things are, how fast they go or what is shown, and
#: changes no number. All other options belong to the identity of a run.
FREE: Mapping[str, bool] = MappingProxyType({"identity": False})
