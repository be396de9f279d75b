"""The commands of `python -m processing.local`."""
