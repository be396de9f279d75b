"""Assumptions about SageMaker: the engine's behaviour where AWS documents none. The documentation quotes this table."""

from __future__ import annotations

from typing import NamedTuple


class Assumption(NamedTuple):
    """One behaviour that AWS does not document.

    Attributes:
        topic: the subject.
        behaviour: the engine's behaviour.
    """

    topic: str
    behaviour: str


ASSUMPTIONS: tuple[Assumption, ...] = (
    Assumption("sharding", "keys sorted by their UTF-8 bytes; host i of n takes every n-th key, from the i-th on"),
    Assumption(
        "names of input files",
        "the part of the key after `prefix/`; if the prefix ends within a name, the part after the prefix's last slash",
    ),
    Assumption(
        "empty input", "a prefix without objects fails the job with a ClientError; a share without objects does not"
    ),
    Assumption(
        "stop",
        "SIGTERM to the program's process group, in a container to process 1; SIGKILL after the grace (120 seconds by "
        "default; at most 30, as documented, for an endpoint's program, and 2 for one that has transformed everything)",
    ),
    Assumption(
        "stop while it ends",
        "a job that was asked to stop ends as Stopped, unless its program had failed by itself before the request",
    ),
    Assumption("maximum runtime", "counted from the start of the program; then a stop, and a FailureReason says so"),
    Assumption("default maximum runtime", "86,400 seconds, enforced"),
    Assumption(
        "Pipe mode",
        "the named pipe of the first pass is `<LocalPath>_0`, then `_1` and so on; when a pipe was read to its end, or "
        "was closed by its reader, it is removed and the next one appears",
    ),
    Assumption(
        "data of a pipe",
        "the bodies of the objects one after another, by the UTF-8 bytes of their keys, or in the order of the "
        "manifest; with Gzip each body is inflated on its own",
    ),
    Assumption(
        "pipe that breaks",
        "an object that no longer exists, or is not in gzip format, fails the job with a ClientError; the reader is "
        "stopped, and sees no end of file",
    ),
    Assumption(
        "several hosts",
        "the first host whose program fails stops the others; the job's FailureReason is its reason and its name",
    ),
    Assumption("network isolation", "each host is alone: the hosts of a job do not reach each other either"),
    Assumption(
        "out of memory",
        "if the kernel kills a process because memory ran out, and the program fails: `ClientError: Please use an "
        "instance type with more memory, or reduce the size of job data processed on an instance.`",
    ),
    Assumption(
        "full volume",
        "a host whose files exceed VolumeSizeInGB (of 2^30 bytes) is stopped, and fails with a ClientError that says "
        "so; data that is used in place does not count",
    ),
    Assumption("outputs", "uploaded at the end of every job: also after a failure and after a stop"),
    Assumption("outputs within one another", "each output receives every file below its LocalPath"),
    Assumption(
        "locked outputs",
        "directories and files are uploaded whatever mode the job gives them; an entry that cannot be read fails the "
        "job, and the reason names it",
    ),
    Assumption(
        "Continuous",
        "a file is uploaded when its size and time of change are the same in two checks, and once more at the end "
        "if it changed since; a file that the job removes stays in S3",
    ),
    Assumption("same key from two hosts", "the later upload wins"),
    Assumption("FailureReason", "`AlgorithmError: See job logs for more information, exit code: N`"),
    Assumption("entrypoint not found", "exit code 127, not executable 126, as in a shell; the reason names it"),
    Assumption("exit message", "the hosts' messages one after another in order of the hosts, 1,024 characters at most"),
    Assumption("working directory", "the job's own HOME, empty at the start and removed after the job"),
    Assumption(
        "temporary folders",
        "each host has its own /tmp and /dev/shm, empty at the start and removed after the job; /tmp counts for "
        "VolumeSizeInGB. Under path rewriting they are this machine's, and only TMPDIR is the host's own",
    ),
    Assumption("user of the image", "any user may read and write everything below /opt/ml"),
    Assumption("environment", "AWS_REGION, AWS_DEFAULT_REGION, PROCESSING_JOB_ARN and PYTHONUNBUFFERED=1 are set"),
    Assumption(
        "keys in a job",
        "temporary keys in the environment, of the role's session `SageMaker`, valid for a day beyond the maximum "
        "runtime",
    ),
    Assumption(
        "length of a reason",
        "a FailureReason is cut to 1,024 characters; the name of the host after it is kept whole",
    ),
    Assumption("empty line", "one event with a single space, since an event may not be empty"),
    Assumption("state-change events", "one for each change of the status, beginning with InProgress at the creation"),
    Assumption(
        "values in state-change events",
        "as Describe answers them; in AWS's only example some enums of the inputs are in capitals",
    ),
    Assumption(
        "instances of a variant",
        "each variant has one program, whatever its number of instances; Describe answers the number that was asked",
    ),
    Assumption(
        "health of a variant",
        "GET /ping until it answers 200, within ContainerStartupHealthCheckTimeoutInSeconds or 480 seconds; afterwards "
        "the program is not pinged again",
    ),
    Assumption(
        "program that ends",
        "before it was healthy, the endpoint fails at once; afterwards the program starts again, and invocations wait",
    ),
    Assumption(
        "update that fails",
        "the endpoint is Failed with the reason, its former variants still serve, and it can only be deleted",
    ),
    Assumption(
        "links in a model",
        "as documented, a model.tar.gz with symbolic links cannot be unpacked; the reason names the link",
    ),
    Assumption("network of an endpoint", "its own: the program reaches the engine and itself, and nothing else"),
    Assumption(
        "lines of a transform job",
        "MultiRecord sends lines with their newlines, SingleRecord without; blank lines are records",
    ),
    Assumption(
        "RecordIO in a transform job",
        "records are sent with their heads; SingleRecord leaves out the zeros after the last byte",
    ),
    Assumption("AssembleWith Line", "a newline after each answer that does not end with one"),
    Assumption("names of transform outputs", "S3OutputPath, the name of the input as for input files, and `.out`"),
    Assumption(
        "failing object of a transform job",
        "the other objects go on; the job fails with the reason of the first, and its log has a line for each",
    ),
    Assumption(
        "retries of a transform job", "after 5xx, a broken connection and a time-out, 0.05 seconds later and on"
    ),
    Assumption("asynchronous invocations at a time", "4, unless MaxConcurrentInvocationsPerInstance is set"),
)


TRAINING_ASSUMPTIONS: tuple[Assumption, ...] = (
    Assumption(
        "FastFile", "the data are files, which are there before the program starts; inputdataconfig.json says File"
    ),
    Assumption(
        "network interface", "`lo`: the hosts of a job have loopback addresses, and reach each other by their names"
    ),
    Assumption(
        "artifacts of several hosts",
        "the last host to end puts them together; where two hosts have a file of one name, that of the host with "
        "the higher number counts",
    ),
    Assumption(
        "artifacts without files",
        "a completed job has a model.tar.gz even if no file is in it; all other archives are made only for files",
    ),
    Assumption(
        "links in artifacts",
        "a symbolic link stays a link if it leads to a place below its directory, otherwise it is left out; with "
        "OutputDataConfig.CompressionType NONE all are left out",
    ),
    Assumption("artifacts of failed and stopped jobs", "uploaded as well"),
    Assumption(
        "reason of a failure",
        "`AlgorithmError: TEXT, exit code: N` with the text of /opt/ml/output/failure; bytes that are not UTF-8 "
        "are replaced",
    ),
    Assumption(
        "checkpoints",
        "each host has those in S3 at its start, and uploads its own like Continuous outputs; a file that the "
        "program removes stays in S3",
    ),
    Assumption("path of checkpoints", "a directory of its own below /opt/ml"),
    Assumption(
        "secondary status",
        "entered when the first host enters it; a job that is being stopped stays in Stopping until it is Stopped",
    ),
    Assumption("events of a training job", "one for each change of the secondary status"),
    Assumption(
        "maximum runtime of a training job",
        "the status is Stopped, the secondary status MaxRuntimeExceeded, and there is no FailureReason",
    ),
    Assumption(
        "times of a training job",
        "TrainingStartTime is the start of the first program; TrainingTimeInSeconds runs from there to the end, "
        "at least 1",
    ),
    Assumption(
        "metrics of the program",
        "a regular expression is searched in each line of the log; its first group is the value, and the last one"
        " counts",
    ),
    Assumption("ContainerArguments without an entrypoint", "they take the place of the command `train`"),
    Assumption("volume", "30 GB if the request names no size"),
)
"""The behaviours of training jobs that AWS does not document, beyond those of every job."""
