"""Roles and S3 paths of a stage: given, from Spark's configuration, or made on first use."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from processing._utils.validation import NAME, TEXT, checked, shown
from processing.default_sessions import LOCAL_ROLE
from processing.exceptions import ConfigurationError
from processing.request.s3_uri import S3Uri
from processing.spark.ml.values import Value, both_spellings

if TYPE_CHECKING:
    from processing.session.session import Session

_OLD_KEYS = "com.amazonaws.services.sagemaker.sparksdk."
ROLE_KEY = "spark.sagemaker.role"
"""The key of the role in Spark's configuration."""

_PATH_KEY = "spark.sagemaker.s3-data-bucket"


class IAMRoleResource(Value):
    """A role that SageMaker assumes for a training job and a model."""

    def arn(self, session: Session, spark: Any) -> str:
        """Return the role's ARN.

        Args:
            session: the session; it looks up a role by its name.
            spark: the Spark session.
        """
        raise NotImplementedError


class IAMRole(IAMRoleResource):
    """A role.

    Args:
        role: the ARN, or the name: its ARN is looked up with IAM.
    """

    def __init__(self, role: str) -> None:
        self.role = checked("sagemakerRole", role, NAME)

    def arn(self, session: Session, spark: Any) -> str:  # noqa: ARG002 - see the base class
        """Return the role's ARN."""
        return _expanded(session, self.role)


class IAMRoleFromConfig(IAMRoleResource):
    """The role that Spark's configuration names.

    Args:
        configKey: a key of Spark's configuration. `spark.sagemaker.role` is read if the key has no value.
    """

    @both_spellings
    def __init__(self, configKey: str = _OLD_KEYS + "sagemakerrole") -> None:
        self.configKey = checked("configKey", configKey, NAME)

    def arn(self, session: Session, spark: Any) -> str:
        """Return the role's ARN."""
        # spark-submit drops keys that do not begin with `spark.`, so that the old key needs one there.
        keys = (self.configKey, f"spark.{self.configKey}", ROLE_KEY)
        role = _from_configuration(spark, keys)
        if role is None and session.is_local:
            return LOCAL_ROLE
        if role is None:
            raise ConfigurationError(
                f"sagemakerRole: missing; give IAMRole(...), or set {ROLE_KEY} or {self.configKey} in Spark's "
                f"configuration: spark-submit --conf {ROLE_KEY}=<ARN>"
            )
        return _expanded(session, role)


def _expanded(session: Session, role: str) -> str:
    from botocore.exceptions import ClientError

    from processing.aws.retry import error_code

    try:
        return session.expand_role(role)
    except ClientError as error:
        if error_code(error) == "NoSuchEntity":
            raise ConfigurationError(f"sagemakerRole: IAM has no role {role!r}; give its ARN") from error
        raise


def _from_configuration(spark: Any, keys: tuple[str, ...]) -> str | None:
    for key in keys:
        value = spark.conf.get(key, None)
        if value:
            return str(value)
    return None


def role_of(given: Any) -> IAMRoleResource:
    """Return a role that may be given as text.

    Raises:
        ConfigurationError: the value is neither a text nor a role.
    """
    if isinstance(given, str):
        return IAMRole(given)
    if isinstance(given, IAMRoleResource):
        return given
    raise ConfigurationError(f"sagemakerRole: must be an IAMRole or an IAMRoleFromConfig, not {shown(given)}")


class S3Resource(Value):
    """A place in S3 for training data or models."""

    def uri(self, session: Session, spark: Any, parameter: str) -> S3Uri:
        """Return the place. It may be created.

        Args:
            session: the session.
            spark: the Spark session.
            parameter: the parameter's name in error messages.
        """
        raise NotImplementedError

    def check(self, session: Session, spark: Any, parameter: str) -> None:
        """Refuse a place that cannot be used, without a call that changes anything.

        Args:
            session: the session.
            spark: the Spark session.
            parameter: the parameter's name in error messages.
        """


class S3DataPath(S3Resource):
    """A prefix in a bucket.

    Args:
        bucket: the bucket.
        objectPath: the prefix; empty for the whole bucket.
    """

    @both_spellings
    def __init__(self, bucket: str, objectPath: str) -> None:
        self.bucket = checked("bucket", bucket, NAME)
        self.objectPath = checked("objectPath", objectPath, TEXT)

    def uri(self, session: Session, spark: Any, parameter: str) -> S3Uri:  # noqa: ARG002 - see the base class
        """Return the place."""
        return S3Uri.checked(f"s3://{self.bucket}/{self.objectPath.strip('/')}".rstrip("/"), parameter)

    def check(self, session: Session, spark: Any, parameter: str) -> None:
        """Refuse a bucket that no S3 has."""
        self.uri(session, spark, parameter)

    def toS3UriString(self) -> str:
        """Return the place as a URI."""
        return f"s3://{self.bucket}/{self.objectPath}"


class S3PathFromConfig(S3Resource):
    """The bucket or URI that Spark's configuration names.

    Args:
        configKey: a key of Spark's configuration.
    """

    @both_spellings
    def __init__(self, configKey: str = _OLD_KEYS + "s3-data-bucket") -> None:
        self.configKey = checked("configKey", configKey, NAME)

    def uri(self, session: Session, spark: Any, parameter: str) -> S3Uri:  # noqa: ARG002 - see the base class
        """Return the place."""
        value = _from_configuration(spark, (self.configKey, f"spark.{self.configKey}", _PATH_KEY))
        if value is None:
            raise ConfigurationError(f"{parameter}: set {_PATH_KEY} or {self.configKey} in Spark's configuration")
        return parse_uri(value if "://" in value else f"s3://{value}", parameter)

    def check(self, session: Session, spark: Any, parameter: str) -> None:
        """Refuse a configuration without the key."""
        self.uri(session, spark, parameter)


class S3AutoCreatePath(S3Resource):
    """A new prefix in the bucket `<account>-sagemaker-<region>`, which is created if it does not exist."""

    def uri(self, session: Session, spark: Any, parameter: str) -> S3Uri:  # noqa: ARG002 - see the base class
        """Create the bucket if it does not exist, and return the place."""
        from botocore.exceptions import ClientError

        from processing.aws.retry import error_code

        bucket = f"{session.account_id()}-sagemaker-{session.boto_region_name}"
        request: dict[str, object] = {"Bucket": bucket}
        if session.boto_region_name != "us-east-1":  # S3 refuses that one as a constraint
            request["CreateBucketConfiguration"] = {"LocationConstraint": session.boto_region_name}
        try:
            session.api.call("s3", "CreateBucket", request)
        except ClientError as error:
            if error_code(error) == "BucketAlreadyExists":
                raise ConfigurationError(
                    f"{parameter}: another account owns the bucket {bucket}; give S3DataPath(bucket, prefix)"
                ) from error
            if error_code(error) != "BucketAlreadyOwnedByYou":
                raise
        return S3Uri(bucket, str(uuid.uuid4()))


def parse_uri(text: str, parameter: str) -> S3Uri:
    """Return an `s3://`, `s3a://` or `s3n://` URI.

    Raises:
        ConfigurationError: the text is not an S3 path; the message names the parameter.
    """
    for scheme in ("s3a://", "s3n://"):
        if text.startswith(scheme):
            text = "s3://" + text[len(scheme) :]
    return S3Uri.checked(text, parameter)


def path_of(given: Any, parameter: str) -> S3Resource:
    """Return a place that may be given as a URI.

    Raises:
        ConfigurationError: the value is neither a URI nor a place.
    """
    if isinstance(given, str):
        uri = parse_uri(given, parameter)
        return S3DataPath(uri.bucket, uri.key)
    if isinstance(given, S3Resource):
        return given
    raise ConfigurationError(f"{parameter}: must be an S3DataPath, an S3AutoCreatePath or a URI, not {shown(given)}")
