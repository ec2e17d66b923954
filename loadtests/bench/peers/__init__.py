"""Each peer as its users write it. Every file runs alone, with the Python of its own environment: FILE MODEL PORT."""
