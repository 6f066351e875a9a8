"""From what is asked for to machines, time and money. PURE: no I/O and no clock."""
