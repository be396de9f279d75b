"""What runs inside a container, or as a host of the embedded engine.

A leaf: it imports nothing else of the package, only the standard library, and keeps to the syntax of Python 3.8,
because it runs on whatever Python an image has. What it needs of its surroundings (where log lines go, whether to
stop) is handed to it.
"""
