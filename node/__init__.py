"""The running service: sockets, schedule, workers, delivery, command line."""
