"""A model-serving gateway that closes the loop: serve, journal, notice drift, retrain, roll out, roll back."""

__version__ = "0.1.0"
