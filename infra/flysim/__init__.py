"""A model of Fly Machines on whatever clock it is given. PURE: no I/O."""
