"""The container shim: adapts a program that knows nothing of SageMaker to jobs, transforms and endpoints.

A task names objects in S3. The shim downloads them to the input folder, runs the program, uploads the output folder,
and writes a result. Tasks and results have the form of sagemaker-shim 0.8.3.
"""
