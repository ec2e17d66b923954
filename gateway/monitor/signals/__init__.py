"""What one version in one role shows: its inputs, its errors, its labels, its limit."""
