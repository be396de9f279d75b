"""Fixtures of images that run."""

from podman_storage import podman

__all__ = ["podman"]
