"""Processors of other people's: hooks overridden in the ways that published ones do it."""

import json
import pathlib

import sagemaker
from sagemaker.dataset_definition.inputs import AthenaDatasetDefinition, DatasetDefinition
from sagemaker.processing import FeatureStoreOutput, ProcessingInput, ProcessingOutput, Processor, ScriptProcessor

session = sagemaker.Session()
common = {
    "role": "arn:aws:iam::000000000000:role/etl",
    "image_uri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/etl:1",
    "instance_count": 1,
    "instance_type": "ml.m5.large",
    "sagemaker_session": session,
}


class WithConfiguration(ScriptProcessor):
    """Writes a configuration, and appends it to the inputs that it was given."""

    def __init__(self, configuration, **kwargs):
        self.configuration = configuration
        super().__init__(command=["python3"], **kwargs)

    def _normalize_args(self, job_name=None, arguments=None, inputs=None, outputs=None, code=None, kms_key=None):
        self._current_job_name = self._generate_current_job_name(job_name=job_name)
        uri = f"s3://{self.sagemaker_session.default_bucket()}/{self._current_job_name}/conf/conf.json"
        sagemaker.s3.S3Uploader.upload_string_as_file_body(
            json.dumps(self.configuration), desired_s3_uri=uri, sagemaker_session=self.sagemaker_session
        )
        inputs = inputs or []
        inputs.append(ProcessingInput(source=uri, destination="/opt/ml/processing/input/conf", input_name="conf"))
        return super()._normalize_args(self._current_job_name, arguments, inputs, outputs, code, kms_key)


class Launcher(ScriptProcessor):
    """Sets its own entrypoint, and skips the initialiser of ScriptProcessor."""

    def __init__(self, role, image_uri, **kwargs):
        self._CODE_CONTAINER_BASE_PATH = "/opt/ml/processing/"
        self._CODE_CONTAINER_INPUT_NAME = "entry"
        self.command = ["python3", "-u"]
        super(ScriptProcessor, self).__init__(role=role, image_uri=image_uri, **kwargs)

    def _set_entrypoint(self, command, user_script_name):
        location = str(
            pathlib.PurePosixPath(self._CODE_CONTAINER_BASE_PATH, self._CODE_CONTAINER_INPUT_NAME, user_script_name)
        )
        self.entrypoint = self.command + [location, "--launched"]


class Watched:
    """Wraps a processor: changes its environment, reads its role and job."""

    def __init__(self, processor):
        self.processor = processor
        self.processor.env = dict(self.processor.env or {}, WATCHED="yes")

    def run(self, *args, **kwargs):
        self.processor.run(*args, **kwargs)
        return self.processor.role, self.processor.latest_job


def shown(job):
    described = job.describe()
    inputs = [
        (entry["InputName"], entry.get("S3Input", {}).get("LocalPath")) for entry in described["ProcessingInputs"]
    ]
    print("RESULT", described["AppSpecification"].get("ContainerEntrypoint"), inputs, described.get("Environment"))


pathlib.Path("work.py").write_text("import sys; print(sys.argv[1:])\n")

mine = WithConfiguration({"rows": 3}, **common)
mine.run("work.py", inputs=[], logs=False)
shown(mine.latest_job)

launcher = Launcher(**common)
launcher.run(code="work.py", arguments=["--x", "1"], logs=False)
shown(launcher.latest_job)

role, job = Watched(ScriptProcessor(command=["python3"], env={"A": "1"}, **common)).run("work.py", logs=False)
shown(job)
print("RESULT", role)

args = launcher.get_run_args("work.py", arguments=["a"])
print("RESULT", args.arguments, args.outputs)

query = ProcessingInput(
    input_name="query",
    app_managed=True,
    dataset_definition=DatasetDefinition(
        local_path="/opt/ml/processing/input/query",
        athena_dataset_definition=AthenaDatasetDefinition(
            catalog="AwsDataCatalog",
            database="sales",
            query_string="SELECT * FROM orders",
            output_s3_uri="s3://team/out/",
            output_format="PARQUET",
        ),
    ),
)
features = ProcessingOutput(
    output_name="features", app_managed=True, feature_store_output=FeatureStoreOutput(feature_group_name="orders")
)
request = {}
session.sagemaker_client.meta.events.register(
    "before-parameter-build.sagemaker.CreateProcessingJob", lambda params, **_: request.update(params)
)
try:
    Processor(entrypoint=["true"], **common).run([query], [features], wait=False, logs=False)
except Exception as error:  # the engine runs no queries
    print(type(error), error)
print("RESULT", json.dumps([request["ProcessingInputs"], request["ProcessingOutputConfig"]], sort_keys=True))
