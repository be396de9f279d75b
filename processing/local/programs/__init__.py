"""Programs that stand in for the images of SageMaker's built-in algorithms, for training, endpoints and transforms.

`python -m processing.local.programs.NAME train` trains as the image does, and `... serve` answers invocations.
`xgboost` is the real library. `kmeans`, `pca` and `linear_learner` are stand-ins in numpy: they have AWS's formats and
names, not its numerical methods. Nothing is imported here, and numpy only when a program runs.
"""
