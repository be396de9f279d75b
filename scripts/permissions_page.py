#!/usr/bin/env python
"""Write docs/reference/permissions.md from the table in `processing.export.permissions`."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING

from processing.export.permissions import FEATURES, JOB_INPUTS, JOB_OUTPUTS, JOB_ROLE
from processing.export.policies import EVERYDAY, PolicyResources, caller_grants, policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from processing.export.permissions import Feature, Grant

PAGE = pathlib.Path(__file__).resolve().parent.parent / "docs" / "reference" / "permissions.md"
PLACES = PolicyResources(
    region="us-east-1",
    account="111122223333",
    role="arn:aws:iam::111122223333:role/processing",
    buckets=("BUCKET",),
)
KINDS = {
    "role": " on the job's role",
    "logs": " on the group `/aws/sagemaker/ProcessingJobs`",
    "pool-queues": " on `processing-pool-*`",
    "key": " on the key",
}
BEGINNING = """\
# Permissions

The actions that the caller's IAM policy must allow on AWS, for each feature, and those of the job's
role. No policy was tried against AWS: see [what is not
checked](../explanation/what-is-not-checked.md). The error of a refusal names the missing
permission, and the bucket and key, the role, the job or the KMS key that it concerns.

`processing iam NAME` and `request.to_policies()` write the policies for one job.

| to | actions | without them |
|---|---|---|
"""
MIDDLE = """
`tag:GetResources`, `sagemaker:ListProcessingJobs` and `sts:GetCallerIdentity` accept no resource:
`"Resource": "*"`.

## To paste: run, watch and stop jobs

For the caller. `BUCKET` is the bucket of code, data and outputs.

```json
"""
END = """
```

## To paste: the role of a job

SageMaker must be trusted to assume it.

```json
"""


def page() -> str:
    """Return the text of the page."""
    rows = "".join(f"| {each.title} | {actions(each)} | {each.without} |\n" for each in FEATURES.values())
    caller = json.dumps(policy(caller_grants(EVERYDAY), PLACES), indent=2)
    role = json.dumps(policy([*JOB_ROLE, *JOB_INPUTS, *JOB_OUTPUTS], PLACES), indent=2)
    return f"{BEGINNING}{rows}{MIDDLE}{caller}{END}{role}\n```\n"


def actions(feature: Feature) -> str:
    """Return the cell with the actions of a feature."""
    role = f". The job's role: {listed(feature.role)}" if feature.role else ""
    return listed(feature.caller) + role


def listed(grants: Iterable[Grant]) -> str:
    """Return the actions of some grants, with the resources that have a name."""
    return "; ".join(", ".join(f"`{action}`" for action in grant.actions) + KINDS.get(grant.on, "") for grant in grants)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
