"""What happened: records, how they are written and in which order they are read."""
