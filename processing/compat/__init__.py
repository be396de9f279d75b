"""The import names of `sagemaker` 2.x, for programs that were written for it.

```
import processing.compat

processing.compat.install()

from sagemaker.processing import ScriptProcessor  # is processing.ScriptProcessor
```

What `sagemaker.processing` and its neighbours have is there; any other name of `sagemaker` is an ImportError that says
so. Where `sagemaker` 2.x itself is installed, it is what is imported, as before. 3.x, or its core alone, has none of
these names: there they are this package's, and `sagemaker.core` and the like are what is installed.
"""

from processing.compat.finder import install, uninstall

__all__ = ["install", "uninstall"]
