"""A request in the form of other tools: Python, Airflow, Step Functions and SageMaker Pipelines.

All modules work on the parameters of CreateProcessingJob, in the service's spelling. `ProcessingRequest` has a method
for each form.
"""
