"""The SageMaker config file: defaults that a company or a user sets once, with the origin of each of them.

```
import processing.config

print(processing.config.explain())
```

Locations, keys and environment variables are those of `sagemaker` 2.x; see the how-to "Set defaults in a config file".
A session reads the files once, when it first needs one of their values, and logs nothing about it.
"""

from processing.config.values import Config, ConfigFile, Setting, explain, load

__all__ = ["Config", "ConfigFile", "Setting", "explain", "load"]
