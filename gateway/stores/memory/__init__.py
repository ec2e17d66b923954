"""The three stores in the memory of one process: real, with the same promises while the process lives."""

from gateway.stores.memory.connect import connect_memory

__all__ = ["connect_memory"]
