"""One error for credentials that are missing, expired, refused or unusable.

botocore has a dozen errors for them, and every AWS service has codes of its own. Users need two facts instead: the
place that was searched, and the command that helps.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.exceptions import CredentialsError, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

logger = logging.getLogger(__name__)

EXPIRED_CODES: Final = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired")
"""The codes of AWS for credentials that were valid once."""

REFUSED_CODES: Final = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""The codes of AWS for credentials that were never valid, or are valid no longer."""

MISSING_ERRORS: Final = ("NoAuthTokenError", "NoCredentialsError", "PartialCredentialsError")
"""botocore's errors for credentials that are not there, or not there in full. A file may be about to be written."""

EXPIRED_ERRORS: Final = (
    "LoginError",
    "RefreshWithMFAUnsupportedError",
    "SSOError",
    "TokenRetrievalError",
)
"""botocore's errors for a sign-in that has to be repeated."""

UNAVAILABLE_ERRORS: Final = ("CredentialRetrievalError", "MetadataRetrievalError")
"""botocore's errors for a source of credentials that did not respond."""

_REASONS: Final[Mapping[str, str]] = {
    "NoAuthTokenError": "missing",
    "NoCredentialsError": "missing",
    **dict.fromkeys(EXPIRED_ERRORS, "expired"),
    **dict.fromkeys(UNAVAILABLE_ERRORS, "unusable"),
    "ConfigParseError": "unusable",
    "InvalidConfigError": "unusable",
    "MissingDependencyException": "unusable",
    "PartialCredentialsError": "unusable",
    "ProfileNotFound": "unusable",
    "UnknownCredentialError": "unusable",
}

# Calls that botocore makes by itself to obtain credentials. This package makes none of them.
_CREDENTIAL_CALLS: Final = frozenset(
    {"AssumeRole", "AssumeRoleWithWebIdentity", "CreateOAuth2Token", "GetRoleCredentials"}
)

_KEYS: Final = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_CONTAINER: Final = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")


def credentials_error(error: BaseException, boto_session: Callable[[], Any] | None) -> CredentialsError | None:
    """Return the error to raise if a call failed because of the credentials; None if it failed otherwise.

    Args:
        error: the error of botocore.
        boto_session: returns the boto3 session of the call; None if there is none.
    """
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    reason = _reason(error, code)
    if reason is None:
        return None
    setup = _Setup.read(boto_session)
    lines = {"missing": _missing, "expired": _expired, "refused": _refused, "unusable": _unusable}[reason](error, setup)
    return CredentialsError("\n".join(lines), reason=reason, code=code)


@contextlib.contextmanager
def explained_credentials(boto_session: Callable[[], Any] | None = None) -> Iterator[None]:
    """Raise a `CredentialsError` in place of botocore's and AWS's errors about credentials within the block.

    Args:
        boto_session: returns the boto3 session that is used; None if it is being made.
    """
    try:
        yield
    except Exception as error:
        explained = credentials_error(error, boto_session)
        if explained is None:
            raise
        raise explained from error


def check_after_head(call: Callable[[str, str], object], error: BaseException) -> None:
    """Check the credentials after a HEAD request of S3 that was answered with 400.

    Such an answer has no body, so it does not name expired credentials. GetCallerIdentity needs no permission.

    Args:
        call: calls an operation of a service.
        error: the error of the HEAD request.

    Raises:
        CredentialsError: the credentials are the reason.
    """
    response = getattr(error, "response", None) or {}
    if response.get("Error", {}).get("Code") != "400":
        return
    try:
        call("sts", "GetCallerIdentity")
    except CredentialsError:
        raise
    except Exception as unknown:  # noqa: BLE001 - the caller raises the error of the HEAD request
        logger.debug("the credentials could not be checked: %s", unknown)


def _reason(error: BaseException, code: str | None) -> str | None:
    names = [base.__name__ for base in type(error).__mro__ if base.__module__ == "botocore.exceptions"]
    if code is None or not names:
        return next((_REASONS[name] for name in names if name in _REASONS), None)
    if code in EXPIRED_CODES:
        return "expired"
    if code in REFUSED_CODES:
        return "refused"
    return "unusable" if getattr(error, "operation_name", None) in _CREDENTIAL_CALLS else None


@attrs.frozen
class _Setup:
    """The configuration that botocore loads credentials from.

    Args:
        profile: the selected profile; None if none is selected.
        credentials_file: the path of the file with keys.
        config_file: the path of the file with settings.
        profiles: the settings of each profile.
        method: botocore's name of the source of the loaded credentials, such as `sso`; empty if none are loaded.
        region: the region; empty if it is not set.
    """

    profile: str | None
    credentials_file: Path
    config_file: Path
    profiles: Mapping[str, Mapping[str, Any]]
    method: str
    region: str

    @classmethod
    def read(cls, boto_session: Callable[[], Any] | None) -> _Setup:
        """Read the configuration, without a call. An error in it leaves values empty."""
        import botocore.session

        core: Any = None
        with contextlib.suppress(Exception):
            core = getattr(boto_session(), "_session", None) if boto_session else None
        # Without the user's session, a new one reads the same environment and files. It sends no request, and so needs
        # no event handlers. Their registration takes most of the time.
        core = core or botocore.session.Session(include_builtin_handlers=False)
        values: dict[str, Any] = {"profiles": {}}
        with contextlib.suppress(Exception):
            values["profiles"] = core.full_config.get("profiles", {})
        with contextlib.suppress(Exception):
            values["region"] = core.get_config_variable("region")
        # Credentials that are loaded have their source. Loading them here could take a call.
        method = str(getattr(getattr(core, "_credentials", None), "method", None) or "")
        return cls(
            core.profile,
            _path(core, "credentials_file", "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
            _path(core, "config_file", "AWS_CONFIG_FILE", "~/.aws/config"),
            values["profiles"],
            method,
            values.get("region") or "",
        )

    @property
    def name(self) -> str:
        """The profile in use."""
        return self.profile or "default"

    @property
    def option(self) -> str:
        """The option of the AWS CLI that selects the profile."""
        return f" --profile {self.profile}" if self.profile else ""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the profile in use."""
        return self.profiles.get(self.name, {})

    @property
    def signs_in(self) -> str:
        """The AWS CLI's command that signs in to the profile; empty if the profile has keys or a role."""
        if any(key.startswith("sso_") for key in self.settings):
            return f"aws sso login{self.option}"
        return f"aws login{self.option}" if "login_session" in self.settings else ""

    @property
    def sso_profiles(self) -> list[str]:
        """The profiles that sign in with SSO."""
        return [name for name, settings in self.profiles.items() if any(key.startswith("sso_") for key in settings)]


def _path(core: Any, variable: str, environment: str, default: str) -> Path:
    with contextlib.suppress(Exception):
        return Path(core.get_config_variable(variable)).expanduser()
    return Path(os.environ.get(environment) or default)


def _missing(_error: BaseException, setup: _Setup) -> list[str]:
    chosen = setup.sso_profiles[:1] or ["NAME"]
    first = "" if setup.sso_profiles else " (after `aws configure sso`)"
    return [
        "AWS credentials are missing. Places searched:",
        f"  environment: {_environment(setup)}",
        f"  profile: {_profile(setup)}",
        f"  files: {_file(setup.credentials_file)}, {_file(setup.config_file)}",
        f"  container role: {_container()}",
        f"  instance role: {_instance()}",
        (
            f"Sign in with `aws sso login --profile {chosen[0]}`{first} and set AWS_PROFILE={chosen[0]}, or run `aws "
            f"configure`, or set {_KEYS}."
        ),
        'To run the job on this machine, without AWS: instance_type="local".',
    ]


def _expired(error: BaseException, setup: _Setup) -> list[str]:
    return [
        f"The AWS credentials have expired: {_text(error)}",
        f"They come from {_source(setup, error)}.",
        _renewal(setup, error),
    ]


def _refused(error: BaseException, setup: _Setup) -> list[str]:
    region = f" {setup.region}" if setup.region else ""
    return [
        f"AWS refuses the credentials: {_text(error)}",
        f"They come from {_source(setup, error)}.",
        (
            "The key was deleted or mistyped, belongs to another partition, lacks its AWS_SESSION_TOKEN, or the region"
            f"{region} is not enabled for the account. `aws sts get-caller-identity{setup.option}` checks them."
        ),
        _renewal(setup, error),
    ]


def _unusable(error: BaseException, setup: _Setup) -> list[str]:
    found = [f"The AWS credentials cannot be used: {_text(error)}"]
    name = type(error).__name__
    if name == "ProfileNotFound":
        profiles = ", ".join(listed(setup.profiles)) or "none"
        return [
            *found,
            f"Places searched: {_file(setup.credentials_file)}, {_file(setup.config_file)}.",
            f"Profiles there: {profiles}.",
            (
                f"Set AWS_PROFILE to one of them, or add the profile: `aws configure{setup.option}`, or for SSO "
                f"`aws configure sso{setup.option}`."
            ),
        ]
    if name == "ConfigParseError":
        return [*found, "Correct the file, or remove it and run `aws configure`."]
    return [*found, f"They come from {_source(setup, error)}.", _renewal(setup, error)]


def _text(error: BaseException) -> str:
    """Return AWS's or botocore's own words, with the code and the call."""
    response = getattr(error, "response", None) or {}
    details = response.get("Error", {})
    if details.get("Code"):
        return f"{details['Code']} ({getattr(error, 'operation_name', '')}): {details.get('Message') or 'no details'}"
    return str(error)


# By botocore's name of the source: its name in a message. Roles have the profile that selects them.
_SOURCES: Final[Mapping[str, str]] = {
    "env": "the environment variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
    "explicit": "the arguments of boto3.Session or boto3.client",
    "shared-credentials-file": "profile {profile!r} in {credentials_file}",
    "config-file": "profile {profile!r} in {config_file}",
    "custom-process": "the credential_process of profile {profile!r} in {config_file}",
    "assume-role": "the role of profile {profile!r} in {config_file}",
    "assume-role-with-web-identity": "the web identity token in AWS_WEB_IDENTITY_TOKEN_FILE",
    "sso": "SSO, profile {profile!r} in {config_file}",
    "login": "`aws login`, profile {profile!r} in {config_file}",
    "container-role": "the role of this container",
    "iam-role": "the role of this instance",
}

_RENEWALS: Final[Mapping[str, str]] = {
    "env": "Set these variables to new values, or unset them to use a profile.",
    "explicit": "Make a new boto3.Session with new keys.",
    "shared-credentials-file": "Renew the profile with the tool that writes it, or with `aws configure{option}`.",
    "config-file": "Renew the profile with the tool that writes it, or with `aws configure{option}`.",
    "custom-process": "Run the command of credential_process by hand to see its error.",
    "assume-role": "Renew the credentials of its source_profile or credential_source, and check the role's trust "
    "policy.",
    "assume-role-with-web-identity": "Renew the token, and check the trust policy of AWS_ROLE_ARN.",
    "sso": "Sign in: `aws sso login{option}`.",
    "login": "Sign in: `aws login{option}`.",
    "container-role": "Check the role of the task, the pod or the notebook.",
    "iam-role": "Check the role of the instance, and the metadata service.",
}


# By the class of an error, or by the call that botocore made for credentials: the source that failed.
_FAILED_SOURCES: Final[Mapping[str, str]] = {
    "AssumeRole": "assume-role",
    "AssumeRoleWithWebIdentity": "assume-role-with-web-identity",
    "CreateOAuth2Token": "login",
    "GetRoleCredentials": "sso",
    "LoginError": "login",
    "RefreshWithMFAUnsupportedError": "assume-role",
    "SSOError": "sso",
    "TokenRetrievalError": "sso",
}


def _method(setup: _Setup, error: BaseException) -> str:
    """Return botocore's name of the source that failed: by the error itself, the loaded credentials, the profile."""
    names = [base.__name__ for base in type(error).__mro__]
    if "MetadataRetrievalError" in names:
        return "container-role" if _container_variable() else "iam-role"
    by_error = (_FAILED_SOURCES.get(name) for name in (*names, getattr(error, "operation_name", None) or ""))
    provider = str((getattr(error, "kwargs", None) or {}).get("provider", ""))
    by_provider = provider if provider in _SOURCES else ""
    environment = "env" if _has_environment_keys() and setup.profile is None else ""
    return next(filter(None, by_error), "") or by_provider or setup.method or environment


def _source(setup: _Setup, error: BaseException) -> str:
    template = _SOURCES.get(_method(setup, error), "profile {profile!r} in {credentials_file} or {config_file}")
    return template.format(profile=setup.name, credentials_file=setup.credentials_file, config_file=setup.config_file)


def _renewal(setup: _Setup, error: BaseException) -> str:
    method = _method(setup, error)
    if method not in {"env", "explicit"} and setup.signs_in:
        return f"Sign in: `{setup.signs_in}`."
    general = "Renew them: for SSO `aws sso login{option}`, otherwise `aws configure{option}`."
    return _RENEWALS.get(method, general).format(option=setup.option)


def _has_environment_keys() -> bool:
    return any(os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))


def _environment(setup: _Setup) -> str:
    absent = [name for name in _KEYS.split(" and ") if not os.environ.get(name)]
    if absent:
        return f"{' and '.join(absent)} {'are' if len(absent) > 1 else 'is'} not set"
    return f"not used, because profile {setup.name!r} was selected"


def _profile(setup: _Setup) -> str:
    selected = "selected" if setup.profile else "AWS_PROFILE is not set"
    others = [name for name in setup.profiles if name != setup.name]
    rest = f"; other profiles: {', '.join(listed(others))}" if others else ""
    return f"{setup.name!r} ({selected}) has no credentials{rest}"


def _file(path: Path) -> str:
    with contextlib.suppress(OSError):
        return str(path) if path.exists() else f"{path} (does not exist)"
    return f"{path} (cannot be read)"


def _container_variable() -> str | None:
    return next((name for name in _CONTAINER if os.environ.get(name)), None)


def _container() -> str:
    variable = _container_variable()
    return f"{variable} gave none" if variable else f"{_CONTAINER[0]} is not set"


def _instance() -> str:
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return "switched off by AWS_EC2_METADATA_DISABLED"
    return "the metadata service of EC2 gave none (not an instance, or one without a role)"
