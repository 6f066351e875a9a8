"""The JSON that clients send and receive (docs/api.md), a file per noun.

Names end with their unit; times are RFC 3339 in UTC.
"""
