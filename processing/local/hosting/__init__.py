"""Endpoints and transform jobs: programs that serve a model, and the way to them."""
