"""Asynchronous invocations: the queue of an endpoint, and its processing."""
