"""The JSON that clients send and receive (docs/api.md), a file per noun."""
