"""Persistent state of the engine, in SQLite and plain files. All processes that open the same folder share it.

The modules need the standard library only, because supervisors import them and must start in milliseconds. For the
same reason records are NamedTuples and not attrs classes.
"""
