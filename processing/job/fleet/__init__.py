"""Many jobs of one kind: submitted under one name, found again by it, watched and stopped as a whole."""
