"""Wiring and start-up: the parent process, the serving processes, the control process."""
