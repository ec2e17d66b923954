"""Measures what `make bench` does not: swaps, bad neighbours, overload, slow clients, memory (docs/performance.md)."""
