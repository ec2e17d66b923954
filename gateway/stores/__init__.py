"""The concrete stores behind the ports. Only the wiring opens them; everybody else is given `Stores`."""

from gateway.stores.embedded.connect import connect
from gateway.stores.memory import connect_memory
from gateway.stores.stores import Stores

__all__ = ["Stores", "connect", "connect_memory"]
