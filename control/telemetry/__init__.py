"""Log lines and counters of this process."""
