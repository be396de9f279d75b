"""A job on this machine: planned, started, supervised host by host, and buried when a process of it was killed.

Nothing is imported here: a supervisor loads what it needs and little else.
"""
