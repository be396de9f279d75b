"""The SageMaker config file: defaults that a company or a user sets once, and where each of them comes from.

```
import processing.config

print(processing.config.explain())
```

Locations, keys and environment variables are those of `sagemaker` 2.x; see the how-to "Set defaults in a config file".
A session reads the files once, when something is first asked of them, and says nothing about it.
"""

from processing.config.values import Config, ConfigFile, Setting, explain, load

__all__ = ["Config", "ConfigFile", "Setting", "explain", "load"]
