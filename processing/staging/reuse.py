"""Data that is in S3 already: which files of a directory need not travel, and which S3 can copy itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processing.retrying import RetryingApi
    from processing.staging.objects import ExpectedOwner
    from processing.staging.plan import Upload


def missing_uploads(api: RetryingApi, uploads: Sequence[Upload], expected_owner: ExpectedOwner) -> tuple[Upload, ...]:
    """Return the uploads that are left after a look at what is there: one listing for each tree.

    Args:
        api: the calls to S3.
        uploads: what a plan holds.
        expected_owner: as for `upload_all`.
    """
    raise NotImplementedError
