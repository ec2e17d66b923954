"""Answers requests: what this process serves now, and how it comes to serve something else."""
