"""Downloads: ZIPs of stored outputs, and byte ranges of them."""
