"""Measures the gateway beside bare floors and its peers, in one run on one machine. See docs/performance.md."""
