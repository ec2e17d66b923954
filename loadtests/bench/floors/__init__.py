"""The least that a server on uvicorn must do, and the same model served by hand: run with the project's own Python."""
