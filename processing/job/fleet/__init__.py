"""Many jobs of one kind: submitted under one name, found by it, and watched and stopped together."""
