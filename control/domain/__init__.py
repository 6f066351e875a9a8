"""The rules and the words of the product: states, effects, names, errors. PURE: no I/O and no clock."""
