"""The embedded engine: SageMaker Processing, S3, CloudWatch Logs, STS and IAM in one folder on this machine.

Nothing is imported here: a supervisor, which is a process of its own, loads the stores and few other modules.
"""
