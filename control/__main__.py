"""`python -m control` is the `refresher` command."""

from control.cli.start import main

main()
