"""What the engine remembers, in SQLite and plain files, shared by every process that opens the same folder.

Standard library only: supervisors import these modules, and must start in milliseconds.
"""
