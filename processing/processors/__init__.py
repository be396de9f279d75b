"""The processors that users construct and subclass.

`Processor` is for an image, `ScriptProcessor` for a script, `FrameworkProcessor` for a script with the files beside it.

A processor is a plain, mutable object with the attribute and parameter names of `sagemaker.processing` 2.x, in the same
positional order. `run` calls the hooks: the methods with a leading underscore that the documentation lists. They turn
the user's values into inputs and outputs with names and S3 URIs. Then the processor is read once, into a `Launch`, and
nothing reads it later. Hooks only *register* uploads. The files are uploaded after all checks.
"""

from processing.processors.framework import FrameworkProcessor
from processing.processors.processor import Processor
from processing.processors.script import ScriptProcessor

__all__ = ["FrameworkProcessor", "Processor", "ScriptProcessor"]
