"""The dependencies of a remote function: requirements files, projects, and the packages that are installed here."""
