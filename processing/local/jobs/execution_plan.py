"""The execution plan of a job: how its supervisors run it on this machine.

The plan is made when the job is created (`execution_planner`) and stored with the job as JSON. The fields have the
names of the JSON's keys. Standard library only: supervisors read the plan, and they start in milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from processing.local.image_programs import ImageProgram
from processing.local.interpreter import Interpreter
from processing.local.limits import ResourceLimits

if TYPE_CHECKING:
    from collections.abc import Mapping


class GatewayOptions(NamedTuple):
    """The parameters of a job's gateway to the engine.

    Attributes:
        region: the engine's region.
        settings: the engine's settings for jobs that the job creates, in JSON.
        masks: the credential files that such jobs see as empty.
        path: the import search path of the gateway's server.
        environment: the variables that point the job's clients at the engine, with the job's temporary keys.
    """

    region: str
    settings: str
    masks: list[str]
    path: list[str]
    environment: dict[str, str]


class RemoteS3Options(NamedTuple):
    """The way to another S3 that takes the place of the engine's own.

    Attributes:
        endpoint: its URL.
        region: the region to use if boto3 finds none on this machine.
        path: the import search path on which boto3 is found.
    """

    endpoint: str
    region: str
    path: list[str]


class ExecutionPlan(NamedTuple):
    """The decisions by which supervisors run a job.

    Attributes:
        tick: seconds between two checks for a stop request.
        grace: seconds between SIGTERM and SIGKILL.
        sample: seconds between two samples of a host's CPU, memory and disk.
        sandbox: the `state()` of the sandbox.
        python: the interpreter in place of the image; None if the image itself runs.
        gpus: whether the job may use this machine's GPUs.
        limits: the CPU and memory limits that this process tree enforces.
        memory: the bytes of memory that a host may use, the base of its metric; None for the machine's memory.
        gateway: the parameters of the gateway; None for a job with network isolation.
        environment: the variables that every host's program gets.
        masks: files and directories with credentials that the job sees as empty.
        kept: the paths below this machine's /tmp and /dev/shm that the job sees in its own.
        s3: the S3 in place of the engine's own; None for the engine's own.
        events: the sinks of the job's state changes.
        program: the program in place of the image's own; None if there is none.
    """

    tick: float
    grace: float
    sample: float
    sandbox: Mapping[str, Any]
    python: Interpreter | None
    gpus: bool
    limits: ResourceLimits
    memory: int | None
    gateway: GatewayOptions | None
    environment: Mapping[str, str]
    masks: list[str]
    kept: list[str]
    s3: RemoteS3Options | None
    events: list[str]
    program: ImageProgram | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the plan in JSON's types."""
        return {
            **self._asdict(),
            "python": None if self.python is None else self.python._asdict(),
            "limits": self.limits.to_json(),
            "gateway": None if self.gateway is None else self.gateway._asdict(),
            "s3": None if self.s3 is None else self.s3._asdict(),
            "program": None if self.program is None else self.program._asdict(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ExecutionPlan:
        """Return the plan that `to_json` wrote."""
        python, gateway, s3, program = data["python"], data["gateway"], data.get("s3"), data.get("program")
        parts: dict[str, Any] = {
            "python": None if python is None else Interpreter(**python),
            "limits": ResourceLimits.from_json(data["limits"]),
            "gateway": None if gateway is None else GatewayOptions(**gateway),
            "s3": None if s3 is None else RemoteS3Options(**s3),
            "program": None if program is None else ImageProgram(**program),
        }
        return cls(**parts, **{name: data[name] for name in cls._fields if name not in parts})
