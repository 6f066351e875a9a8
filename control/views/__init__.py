"""The views of clients: reads rows and makes their JSON."""
