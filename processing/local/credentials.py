"""The keys for the engine over HTTP: one access key for each engine folder, and temporary keys derived from it.

The first process that needs the folder's key makes it. Only the folder's owner may read it. Temporary keys are not
stored. The session token contains the identity and the expiry with a MAC. The secret key is derived from the token and
the folder's secret. So a supervisor can make a key for its job, and every process on the folder can check it.

Standard library only: supervisors import this.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import secrets
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from processing.local.errors import damaged_file, file_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = "credentials.json"
"""The file in the engine's folder; mode 0600."""

ROLE = "processing-local"
"""The role of callers without a temporary key of another role."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"  # as in AWS's access keys
_MAC_BYTES = 16


class Identity(NamedTuple):
    """The identity of a caller.

    Attributes:
        arn: the ARN that GetCallerIdentity answers; "" for the engine's own role.
        user_id: the unique id that goes with it.
    """

    arn: str = ""
    user_id: str = ""


_OWN_ROLE = Identity()


class Keys(NamedTuple):
    """The keys with which a client signs its requests.

    Attributes:
        access_key: the public half.
        secret_key: the half that is never sent.
        token: the session token of a temporary key; None for the folder's key.
        expires: the expiry of a temporary key, in seconds since the epoch; None for the folder's key.
        identity: the identity of callers with these keys.
    """

    access_key: str
    secret_key: str
    token: str | None = None
    expires: float | None = None
    identity: Identity = _OWN_ROLE


class InvalidTokenError(ValueError):
    """A session token that is not from this engine, or belongs to another access key."""


class Credentials:
    """The keys of an engine's folder.

    Args:
        keys: the folder's own; see `install_credentials`.

    Attributes:
        keys: the folder's own keys.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._secret = keys.secret_key.encode()

    def temporary(self, identity: Identity, expires: float) -> Keys:
        """Return a new temporary key.

        Args:
            identity: the identity of its callers.
            expires: its expiry, in seconds since the epoch.
        """
        access_key = "ASIA" + _random_letters(16)
        fields = [access_key, int(expires), identity.arn, identity.user_id]
        payload = json.dumps(fields, separators=(",", ":")).encode()
        token = base64.b64encode(self._mac(b"token", payload)[:_MAC_BYTES] + payload).decode()
        return self._derived(payload, token)

    def find(self, access_key: str, token: str | None) -> Keys | None:
        """Return the key that a request names, expired or not; None for an unknown access key.

        Args:
            access_key: the request's access key.
            token: the request's session token, if any.

        Raises:
            InvalidTokenError: the session token is not from this engine, or belongs to another access key.
        """
        if token is None:
            return self.keys if access_key == self.keys.access_key else None
        try:
            raw = base64.b64decode(token, validate=True)
        except ValueError:
            raise InvalidTokenError(token) from None
        payload = raw[_MAC_BYTES:]
        if not hmac.compare_digest(self._mac(b"token", payload)[:_MAC_BYTES], raw[:_MAC_BYTES]):
            raise InvalidTokenError(token)
        keys = self._derived(payload, token)
        if keys.access_key != access_key:
            raise InvalidTokenError(token)
        return keys

    def _derived(self, payload: bytes, token: str) -> Keys:
        access_key, expires, arn, user_id = json.loads(payload)
        secret_key = base64.b64encode(self._mac(b"secret", payload)[:30]).decode()
        return Keys(access_key, secret_key, token, expires, Identity(arn, user_id))

    def _mac(self, purpose: bytes, payload: bytes) -> bytes:
        return hmac.digest(self._secret, purpose + b"\0" + payload, hashlib.sha256)


def install_credentials(home: Path) -> Credentials:
    """Return the keys of an engine's folder, and make them if they do not exist.

    Args:
        home: the folder, which exists.

    Raises:
        ApiError: the disk is full.
        EngineError: the file is damaged, or cannot be read or made.
    """
    path = home / FILE
    try:
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            _make(path)
            text = path.read_text("utf-8")
        fields = json.loads(text)
        keys = Keys(_text(fields["access_key"]), _text(fields["secret_key"]))
    except OSError as error:
        raise file_error(home, error) or error from error
    except (ValueError, LookupError, TypeError) as error:
        remedy = "Remove it, so that the engine makes new keys, and give clients the new ones"
        raise damaged_file(home, FILE, "it does not contain the keys of the engine", remedy) from error
    return Credentials(keys)


def _text(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise TypeError(value)


def _make(path: Path) -> None:
    """Write new keys, atomically. If several processes do so at once, the first one's are kept."""
    fields = {"access_key": "AKIA" + _random_letters(16), "secret_key": base64.b64encode(os.urandom(30)).decode()}
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(fields, file)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def job_credentials(home: Path, arn: str, expires: float) -> Keys:
    """Return a temporary key for a job.

    Args:
        home: the engine's folder.
        arn: the ARN of the job's role session, such as `arn:aws:sts::000000000000:assumed-role/Role/SageMaker`.
        expires: the key's expiry, in seconds since the epoch.
    """
    return install_credentials(home).temporary(assumed_role(arn), expires)


def assumed_role(arn: str) -> Identity:
    """Return the identity of a role session by its ARN; its unique id is derived from the names."""
    role, _, session = arn.partition(":assumed-role/")[2].partition("/")
    return Identity(arn, f"{role_id(role)}:{session}")


def role_id(role: str) -> str:
    """Return the unique id of a role, which is derived from its name."""
    number = hashlib.sha256(role.encode()).digest()
    return "AROA" + "".join(_LETTERS[byte % 32] for byte in number[:17])


def _random_letters(count: int) -> str:
    return "".join(_LETTERS[byte % 32] for byte in os.urandom(count))


_caller: ContextVar[Identity] = ContextVar("caller", default=_OWN_ROLE)


def caller() -> Identity:
    """Return the caller of the current operation. A client in the engine's own process has the engine's role."""
    return _caller.get()


@contextlib.contextmanager
def acting_as(identity: Identity) -> Iterator[None]:
    """Set the caller that handlers see, within the block."""
    token = _caller.set(identity)
    try:
        yield
    finally:
        _caller.reset(token)
