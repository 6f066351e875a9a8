"""A model of Fly Machines. Its clock is an input. PURE: no I/O."""
