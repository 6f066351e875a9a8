"""What clients are shown: reads of rows, and their JSON."""
