"""The demo: a client that runs the whole loop on the Electricity stream, through HTTP and commands only."""
