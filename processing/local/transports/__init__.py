"""The two ways to the engine: in process for this package's own clients, HTTP for everybody else's."""
