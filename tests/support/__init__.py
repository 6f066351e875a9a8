"""What tests and benchmarks share: servers, fakes, makers of rows and clips."""
