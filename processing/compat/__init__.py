"""The import names of `sagemaker` 2.x, for programs written for it.

```
import processing.compat

processing.compat.install()

from sagemaker.processing import ScriptProcessor  # is processing.ScriptProcessor
```

The names of `sagemaker.processing` and its neighbours are available. Importing any other name of `sagemaker` raises an
ImportError with an explanation. If `sagemaker` 2.x itself is installed, imports find it, as before. `sagemaker` 3.x and
its core have none of these names. If one of them is installed, these names come from this package, and `sagemaker.core`
and other modules come from the installed one.

The names of `sagemaker_pyspark` 1.4.5 are available as well, from `processing.spark.ml`.
"""

from processing.compat.estimators import HuggingFace, MXNet, PyTorch, SKLearn, TensorFlow, XGBoost
from processing.compat.finder import install, uninstall

__all__ = ["HuggingFace", "MXNet", "PyTorch", "SKLearn", "TensorFlow", "XGBoost", "install", "uninstall"]
