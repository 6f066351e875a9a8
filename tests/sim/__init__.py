"""Deterministic simulation: the real control core against models of everything outside it."""
