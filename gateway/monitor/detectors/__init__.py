"""What tells that a stream changed: numbers in, verdicts out."""
