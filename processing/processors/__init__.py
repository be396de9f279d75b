"""What users construct and subclass.

`Processor` is for an image, `ScriptProcessor` for a script, `FrameworkProcessor` for a script with the files beside it.

A processor is a plain, mutable object with the attribute and parameter names of `sagemaker.processing` 2.x, positional
order included. `run` calls the hooks (the methods that begin with an underscore and are documented here) to turn what
the user gave into inputs and outputs with names and S3 URIs. Then the processor is read once, into a `Launch`, and from
there on nothing sees it. The hooks only *note* what has to be uploaded; it is uploaded after all checks.
"""

from processing.processors.framework import FrameworkProcessor
from processing.processors.processor import Processor
from processing.processors.script import ScriptProcessor

__all__ = ["FrameworkProcessor", "Processor", "ScriptProcessor"]
