"""Notices change: folds the journal into live figures and alerts, never in the request path."""
