"""Spark applications on the engine: the program `smspark-submit` of AWS's images, with an installed Spark.

A job starts the program by its name, and it runs inside the job's sandbox. It starts a standalone cluster over the
hosts of the job, with `installation`'s Spark and Java, and then the application. Standard library only, except for
`dependencies` and `event_logs`, which load boto3 if an option names S3.
"""
