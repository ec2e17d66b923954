"""The `gateway` command. Imports nothing heavy: every command imports what it needs when it runs."""
