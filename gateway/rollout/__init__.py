"""Moves weights: from traffic to evidence, from evidence to the route, one step at a time."""
