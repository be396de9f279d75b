"""The permissions of the package, in one table: for each feature, the actions of the caller and of the job's role.

The table is the source of the policies, of the command `processing iam` and of the reference page. A test compares it
with the calls that each feature makes.
"""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Grant:
    """Some actions on one kind of resource.

    Args:
        on: the kind of resource, a key of `processing.export.policies.RESOURCES`.
        actions: the actions.
    """

    on: str
    actions: tuple[str, ...]


@attrs.frozen
class Feature:
    """Something that users do with the package, and the permissions for it.

    Args:
        title: what users do, in the infinitive.
        caller: what the caller is allowed.
        role: what the job's role is allowed.
        without: what happens without the permissions; empty for an error with AWS's refusal.
    """

    title: str
    caller: tuple[Grant, ...] = ()
    role: tuple[Grant, ...] = ()
    without: str = "an error"


_CREATE = Grant("jobs", ("sagemaker:CreateProcessingJob",))
_PASS = Grant("role", ("iam:PassRole",))
_DESCRIBE = Grant("jobs", ("sagemaker:DescribeProcessingJob",))
_LIST = Grant("any", ("sagemaker:ListProcessingJobs",))
_LINES = Grant("logs", ("logs:FilterLogEvents",))
_POOL_QUEUES = ("sqs:CreateQueue", "sqs:DeleteQueue", "sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage")

FEATURES: Final[dict[str, Feature]] = {
    "submit": Feature("submit a job", (_CREATE, _PASS), without="`SubmissionError`"),
    "tags": Feature(
        "give it tags, as `submit_all` does for all its jobs",
        (Grant("jobs", ("sagemaker:AddTags",)),),
        without="`SubmissionError`; `submit_all(..., tagged=False)` does not need it",
    ),
    "role-name": Feature(
        "give the role by its name, not its ARN",
        (Grant("role", ("iam:GetRole",)),),
        without="an error; give the ARN",
    ),
    "upload": Feature(
        "upload code and data",
        (
            Grant("objects", ("s3:PutObject", "s3:GetObject")),
            Grant("bucket", ("s3:ListBucket",)),
        ),
        without="existing files are sent again without `s3:ListBucket`; `StagingError` without the first",
    ),
    "large-files": Feature(
        "the same with large files",
        (Grant("objects", ("s3:AbortMultipartUpload",)),),
        without="parts of an upload that failed stay",
    ),
    "uploads-taken-back": Feature(
        "remove what a run without a job name has uploaded, if it fails or ends by Ctrl-C before the submission",
        (Grant("objects", ("s3:DeleteObject",)),),
        without="the files stay",
    ),
    "default-bucket": Feature(
        "use the bucket `sagemaker-<region>-<account>`",
        (Grant("bucket", ("s3:ListBucket", "s3:CreateBucket")), Grant("any", ("sts:GetCallerIdentity",))),
        without="an error; `Session(default_bucket=...)` names another, which is neither probed nor created",
    ),
    "kms": Feature(
        "use a KMS key",
        (Grant("key", ("kms:GenerateDataKey", "kms:Decrypt", "kms:CreateGrant")),),
        (Grant("key", ("kms:GenerateDataKey", "kms:Decrypt")),),
        without="AWS's refusal; `kms:CreateGrant` is for the volumes of a job",
    ),
    "job-name": Feature(
        "give a job name",
        (_DESCRIBE,),
        without='the uploads replace no object; `if_exists="attach"` is an error',
    ),
    "watch": Feature("watch, `wait`, `attach`", (_DESCRIBE,), without="`WatchError`"),
    "watch-many": Feature(
        "watch more than eight jobs with few calls", (_LIST,), without="a warning, and each job is described"
    ),
    "logs": Feature(
        "read the log",
        (_LINES,),
        without="the streams one by one, with the next line's actions; without these a warning, and the wait goes on",
    ),
    "logs-by-stream": Feature(
        "read the log without `logs:FilterLogEvents`",
        (Grant("logs", ("logs:DescribeLogStreams", "logs:GetLogEvents")),),
        without="a warning, and the wait goes on",
    ),
    "stop": Feature("stop a job", (Grant("jobs", ("sagemaker:StopProcessingJob",)),)),
    "delete": Feature("`job.delete()`, `processing rm`", (Grant("jobs", ("sagemaker:DeleteProcessingJob",)),)),
    "rerun": Feature(
        "`processing.rerun`, besides those to submit a job",
        (Grant("jobs", ("sagemaker:DescribeProcessingJob", "sagemaker:ListTags")),),
    ),
    "metrics": Feature("`job.metrics()`, `processing top`", (_DESCRIBE, Grant("any", ("cloudwatch:GetMetricData",)))),
    "card": Feature(
        "show the [card](../how-to/cards.md) of a job",
        (
            _DESCRIBE,
            Grant("any", ("cloudwatch:GetMetricData",)),
            Grant("logs", ("logs:FilterLogEvents", "logs:DescribeLogStreams")),
        ),
        without="the card is without metrics, lines or estimates; an error without the first",
    ),
    "other-cards": Feature(
        "show the card of a training job, a transform job or an endpoint",
        (
            Grant(
                "others",
                ("sagemaker:DescribeTrainingJob", "sagemaker:DescribeTransformJob", "sagemaker:DescribeEndpoint"),
            ),
            Grant("any", ("cloudwatch:GetMetricData",)),
            Grant("other-logs", ("logs:FilterLogEvents", "logs:DescribeLogStreams")),
        ),
        without="the card is without metrics, lines or estimates; an error without the first",
    ),
    "download": Feature("download outputs", (Grant("objects", ("s3:GetObject",)), Grant("bucket", ("s3:ListBucket",)))),
    "remote-function": Feature(
        "call a [remote function](remote-functions.md), besides those to submit a job, to upload and to watch it",
        (Grant("objects", ("s3:GetObject",)), Grant("any", ("sts:GetCallerIdentity",))),
    ),
    "map-results": Feature(
        "results of a map, and items of a generator function, as they arrive", (_LINES,), without="all come at the end"
    ),
    "map-resume": Feature(
        "resume a [map with a name](../how-to/many-calls.md)",
        (_DESCRIBE, _LINES),
        without="an error; without logs the results of a job that was killed count for nothing",
    ),
    "pool": Feature(
        "use a `RemotePool`, or the joblib backend",
        (Grant("pool-queues", _POOL_QUEUES),),
        (
            Grant("pool-queues", ("sqs:GetQueueUrl", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:SendMessage")),
            Grant("objects", ("s3:GetObject", "s3:PutObject")),
        ),
    ),
    "shim": Feature(
        "run a program with [the shim](container-shim.md) for tasks in S3, besides those to submit and watch a job",
        (Grant("objects", ("s3:GetObject",)),),
        (Grant("objects", ("s3:GetObject", "s3:PutObject")),),
    ),
    "spark": Feature(
        "run Spark with dependencies in S3, besides those to submit and watch a job",
        (),
        (Grant("objects", ("s3:GetObject",)),),
    ),
    "spark-ml": Feature(
        "fit and transform with the [stages of Spark ML](../how-to/spark-ml.md), in the driver and the workers",
        (
            _PASS,
            Grant("stages", ("sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob")),
            Grant("stages", ("sagemaker:CreateModel", "sagemaker:DescribeModel", "sagemaker:DeleteModel")),
            Grant(
                "stages",
                (
                    "sagemaker:CreateEndpointConfig",
                    "sagemaker:DescribeEndpointConfig",
                    "sagemaker:DeleteEndpointConfig",
                ),
            ),
            Grant("stages", ("sagemaker:CreateEndpoint", "sagemaker:DescribeEndpoint", "sagemaker:DeleteEndpoint")),
            Grant("stages", ("sagemaker:InvokeEndpoint",)),
            Grant(
                "stages",
                ("sagemaker:CreateTransformJob", "sagemaker:DescribeTransformJob", "sagemaker:StopTransformJob"),
            ),
            Grant("objects", ("s3:PutObject", "s3:GetObject", "s3:DeleteObject")),
            Grant("bucket", ("s3:ListBucket", "s3:CreateBucket")),
            Grant("any", ("sts:GetCallerIdentity",)),
        ),
    ),
    "code-artifact": Feature(
        "install from a repository of CodeArtifact",
        (),
        (
            Grant(
                "any",
                (
                    "codeartifact:GetAuthorizationToken",
                    "codeartifact:GetRepositoryEndpoint",
                    "codeartifact:ReadFromRepository",
                    "sts:GetServiceBearerToken",
                ),
            ),
        ),
    ),
    "pool-remains": Feature(
        "remove what a pool leaves",
        (
            Grant("any", ("sqs:ListQueues",)),
            Grant("bucket", ("s3:ListBucket",)),
            Grant("objects", ("s3:DeleteObject",)),
        ),
        (
            Grant("pool-queues", ("sqs:DeleteQueue",)),
            Grant("bucket", ("s3:ListBucket",)),
            Grant("objects", ("s3:DeleteObject",)),
        ),
        without="it stays, and a warning or a line in the job's log names it",
    ),
    "futures": Feature("`get_future`, `list_futures`", (_DESCRIBE, Grant("objects", ("s3:GetObject",)), _LIST)),
    "values": Feature(
        "store and load [values](serialization.md)",
        (Grant("objects", ("s3:PutObject", "s3:GetObject")),),
        without="`ServiceError`",
    ),
    "fleet": Feature(
        "continue a fleet, and stop it",
        (_LIST,),
        without="every name is tried, and every job of this process stopped",
    ),
    "jobs": Feature("find jobs: `jobs`, `Fleet.attach`", (_LIST,)),
    "jobs-by-tag": Feature(
        "find them by tags, `Fleet.attach` among them",
        (Grant("any", ("tag:GetResources",)),),
        without="an error; `Fleet.attach` and `stop` read the tags of each job, with `sagemaker:ListTags`",
    ),
    "queue": Feature(
        "wake up by [a queue](../how-to/other-processes.md)",
        (Grant("queue", ("sqs:ReceiveMessage", "sqs:DeleteMessage")),),
        without="a warning, and jobs are described at the usual intervals; a queue's own key needs `kms:Decrypt`",
    ),
    "queue-setup": Feature(
        "set that queue up, once",
        (
            Grant("queue", ("sqs:CreateQueue",)),
            Grant("rules", ("events:PutRule", "events:PutTargets")),
        ),
        without="",
    ),
    "config": Feature(
        "read a [config file](../how-to/config-file.md) in S3",
        (Grant("objects", ("s3:GetObject",)),),
        without="none is read",
    ),
    "execution-role": Feature(
        "`get_execution_role`",
        (Grant("any", ("sts:GetCallerIdentity",)), Grant("role", ("iam:GetRole",))),
    ),
    "execution-role-notebook": Feature(
        "the same in notebooks and Studio",
        (
            Grant(
                "any",
                (
                    "sagemaker:DescribeNotebookInstance",
                    "sagemaker:DescribeUserProfile",
                    "sagemaker:DescribeDomain",
                ),
            ),
        ),
    ),
    "prices": Feature(
        "refresh [prices](../how-to/plan.md)",
        (Grant("any", ("pricing:GetProducts",)),),
        without="the prices that the package has",
    ),
}
"""The features by name."""

JOB_ROLE: Final = (
    Grant(
        "job-logs",
        ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
    ),
    Grant("any", ("cloudwatch:PutMetricData", "ecr:GetAuthorizationToken")),
    Grant(
        "image",
        ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
    ),
)
"""The permissions of every job's role: for its log, its metrics and its image. SageMaker itself makes these calls."""

JOB_INPUTS: Final = (
    Grant("objects", ("s3:GetObject",)),
    Grant("bucket", ("s3:ListBucket",)),
)
JOB_OUTPUTS: Final = (Grant("objects", ("s3:PutObject",)),)
JOB_NETWORK: Final = (
    Grant(
        "any",
        (
            "ec2:CreateNetworkInterface",
            "ec2:CreateNetworkInterfacePermission",
            "ec2:DeleteNetworkInterface",
            "ec2:DeleteNetworkInterfacePermission",
            "ec2:DescribeDhcpOptions",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeVpcs",
        ),
    ),
)
"""The further permissions of the role of a job in a VPC."""
