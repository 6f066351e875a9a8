"""What every request passes through: limits, headers, authentication, event streams, metrics."""
