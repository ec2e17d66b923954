"""Runs versions over files and over the journal, beside a running gateway or without one: `score` and `replay`."""
