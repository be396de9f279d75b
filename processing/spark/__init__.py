"""Spark applications as processing jobs, with the signatures and hooks of `sagemaker.spark.processing` 2.x.

Nothing here imports pyspark: Spark runs in AWS's image, whose program `smspark-submit` starts YARN on the job's hosts
and then `spark-submit`. See https://github.com/aws/sagemaker-spark-container. On the engine, its own program of that
name starts the installed Spark.
"""

from processing.spark.jar_processor import SparkJarProcessor
from processing.spark.processors import PySparkProcessor

__all__ = ["PySparkProcessor", "SparkJarProcessor"]
