"""Plans the machines, time and money for a request. PURE: no I/O and no clock."""
