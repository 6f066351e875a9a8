"""`python -m control` is the `refresher` command."""

from control.cli.main import main

main()
