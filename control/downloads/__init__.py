"""From stored outputs to ZIPs and ranges of bytes."""
