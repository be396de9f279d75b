"""The two transports to the engine: in process for this package's own clients, HTTP for all others."""
