"""Benchmarks. Each compares two things in one run and prints a ratio, since machines are noisy."""
