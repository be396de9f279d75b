"""The start of the static shim."""

from __future__ import annotations

import pytest

from processing.container.shim.static_main import restore

CASES = {
    "nothing set": ({"TMPDIR": "/tmp/x", "PROCESSING_SHIM_ORIGINAL_TMPDIR": "", "LD_LIBRARY_PATH": "/tmp/x"}, {}),
    "both set": (
        {
            "TMPDIR": "/tmp/x",
            "PROCESSING_SHIM_ORIGINAL_TMPDIR": "/data",
            "LD_LIBRARY_PATH": "/tmp/x",
            "LD_LIBRARY_PATH_ORIG": "/opt/lib",
        },
        {"TMPDIR": "/data", "LD_LIBRARY_PATH": "/opt/lib"},
    ),
    "without a launcher": ({"TMPDIR": "/data"}, {"TMPDIR": "/data"}),
    "variables of the binary": (
        {"STATICX_BUNDLE_DIR": "x", "_PYI_ARCHIVE_FILE": "x", "PATH": "/bin"},
        {"PATH": "/bin"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_environment_is_that_of_the_image(case: str) -> None:
    """Variables that the binary sets do not reach the program; those that it changed are as before."""
    environment, expected = CASES[case]
    changed = dict(environment)
    restore(changed)
    assert changed == expected
