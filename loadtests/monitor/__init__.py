"""Does the monitor keep up? A real gateway under a steady load with labels, and the monitor's lag second by second."""
