"""The `refresher` command."""
