"""A job that fails, and a program that looks at the error; then jobs that are found by name, waited for and stopped."""

import pathlib

import sagemaker
from sagemaker.exceptions import UnexpectedStatusException
from sagemaker.processing import ProcessingJob, Processor, ScriptProcessor

session = sagemaker.Session()
common = {
    "role": "arn:aws:iam::000000000000:role/etl",
    "image_uri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/etl:1",
    "instance_count": 1,
    "instance_type": "ml.m5.large",
    "sagemaker_session": session,
}
pathlib.Path("fail.py").write_text("raise SystemExit(3)\n")
script = ScriptProcessor(command=["python3"], **common)
try:
    script.run("fail.py", logs=False)
except UnexpectedStatusException as error:
    print("RESULT", isinstance(error, ValueError), "Completed" in error.allowed_statuses, error.actual_status)
    print("RESULT", "code: 3" in str(error))
print("RESULT", session.was_processing_job_successful(script.latest_job.job_name))

plain = Processor(entrypoint=["python3", "-c", "print('done')"], **common)
plain.run(wait=False, logs=False)
found = ProcessingJob.from_processing_name(session, plain.latest_job.job_name)
found.wait(logs=False)
print("RESULT", session.wait_for_processing_job(found.job_name)["ProcessingJobStatus"])
session.logs_for_processing_job(found.job_name)

plain.entrypoint = ["python3", "-c", "import time; time.sleep(600)"]
plain.run(wait=False, logs=False)
by_arn = ProcessingJob.from_processing_arn(session, plain.latest_job.describe()["ProcessingJobArn"])
by_arn.stop()
print("RESULT", by_arn.describe()["ProcessingJobStatus"] in ("Stopping", "Stopped"), len(plain.jobs))
for wrong in (
    lambda: plain.run(wait=False, logs=True),
    lambda: script.run("missing.py"),
    lambda: script.run("."),
    lambda: script.run("ftp://host/file.py"),
):
    try:
        wrong()
    except ValueError as error:
        print("RESULT", "ValueError")
