"""`python -m control` is the `refresher` command."""

from control.cli import main

main()
