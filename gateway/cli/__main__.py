"""`python -m gateway.cli`: the same as the installed command."""

from gateway.cli import main

main()
