"""Experiments with several arms: counted, judged, carried out and ended, by the same means as rollouts."""
