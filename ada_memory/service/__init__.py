"""The process that people run: socket, API, workers."""
