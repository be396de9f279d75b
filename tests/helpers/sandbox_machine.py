"""The sandboxes that work on this machine."""

from __future__ import annotations

import functools

import pytest

from processing.local.sandboxes.bubblewrap import Bubblewrap
from processing.local.sandboxes.namespaces import Namespaces

_KINDS = {kind.name: kind for kind in (Bubblewrap, Namespaces)}


@functools.cache
def _problem(name: str) -> str:
    return _KINDS[name].probe()[1] if name in _KINDS else ""


def skip_without_sandbox(name: str) -> None:
    """Skip the test if a sandbox does not work here. Where every test has to run, a skip is a failure."""
    if _problem(name):
        pytest.skip(f"{name}: {_problem(name)}")
