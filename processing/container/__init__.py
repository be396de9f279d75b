"""The code that runs inside a container, or as a host of the embedded engine.

A leaf of the package: it imports only the standard library. It keeps to the syntax of Python 3.8, because it runs on
the Python of any image. Callers pass in everything that depends on the environment, such as the destination of log
lines and the reason to stop.
"""
