"""The outside world on one machine: Fly, a bucket and servers on the loopback."""
