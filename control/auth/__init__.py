"""Tokens, tickets and the limit on password tries."""
