"""Rollouts on a real gateway, through HTTP: bad versions must go, good ones stay, callers notice nothing."""
