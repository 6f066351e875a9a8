"""Turns bytes and URLs of users into stored sources."""
