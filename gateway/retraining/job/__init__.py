"""What one job does, in a process of its own: rows in, a version and its report out."""
