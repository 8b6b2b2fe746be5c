"""`python -m groundglass`, the same as the command."""

from groundglass.cli.main import main

main()
