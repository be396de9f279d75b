"""The import names of `sagemaker` 2.x, for programs that were written for it.

```
import processing.compat

processing.compat.install()

from sagemaker.processing import ScriptProcessor  # is processing.ScriptProcessor
```

What `sagemaker.processing` and its neighbours have is there; any other name of `sagemaker` is an ImportError that says
so. Where `sagemaker` itself is installed, it is what is imported, as before.
"""

from processing.compat.finder import install, uninstall

__all__ = ["install", "uninstall"]
