"""Access keys for plain requests to S3: from variables, or from the metadata server of a container.

boto3 has more sources. With one of those, or without an answer, there is no key here, and botocore looks for one.
"""

from __future__ import annotations

import calendar
import http.client
import json
import re
import threading
import time
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

_SERVER = "169.254.170.2"
"""The metadata server of containers on AWS."""
_SERVERS = (_SERVER, "169.254.170.23", "localhost", "127.0.0.1")
"""The servers that a token may be sent to without TLS."""
_SECONDS = 2.0
_EARLY = 900.0
"""The seconds before its end from which a key is replaced."""
_TEXT = re.compile(r"[\x21-\x7e]*")
"""Matches a value of a header."""


class AccessKey(NamedTuple):
    """An access key.

    Attributes:
        identity: the id of the key.
        secret: the secret.
        token: the session token; empty without one.
        expires: the end of the key in seconds since the epoch; None if it has none.
    """

    identity: str
    secret: str
    token: str = ""
    expires: Optional[float] = None


class AccessKeys:
    """The access keys of an environment.

    Args:
        environment: the environment. The order of its sources is that of boto3.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self._key = _from_variables(environment)

    def get(self) -> Optional[AccessKey]:
        """Return a key that has not expired; None if there is none."""
        with self._lock:
            if not _is_fresh(self._key):
                self._key = _from_container(self._environment)
            return self._key if _is_fresh(self._key) else None


def has_access_key(environment: Mapping[str, str]) -> bool:
    """Return whether variables contain a key, or lead to the metadata server of a container."""
    # Half a key is an error of botocore's.
    if environment.get("AWS_ACCESS_KEY_ID"):
        return _from_variables(environment) is not None
    return _address(environment) is not None


def _is_fresh(key: Optional[AccessKey]) -> bool:
    return key is not None and (key.expires is None or key.expires - _EARLY > time.time())


def _valid(key: AccessKey) -> Optional[AccessKey]:
    is_valid = all(_TEXT.fullmatch(each) for each in (key.identity, key.secret, key.token))
    return key if is_valid and key.identity and key.secret else None


def _from_variables(environment: Mapping[str, str]) -> Optional[AccessKey]:
    identity, secret = (environment.get("AWS_" + name, "") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    token = environment.get("AWS_SECURITY_TOKEN") or environment.get("AWS_SESSION_TOKEN") or ""
    return _valid(AccessKey(identity, secret, token))


def _address(environment: Mapping[str, str]) -> Optional[Tuple[str, int, str]]:
    """Return the host, the port and the path of the metadata server; None without such a server."""
    relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    url = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
    if relative is not None:
        url = "http://" + _SERVER + relative
    try:
        parts = urlsplit(url)
        found = parts.hostname, parts.port or 80
    except ValueError:
        return None
    if parts.scheme != "http" or found[0] not in _SERVERS or parts.username is not None:
        return None
    return str(found[0]), found[1], parts.path + ("?" + parts.query if parts.query else "")


def _from_container(environment: Mapping[str, str]) -> Optional[AccessKey]:
    address = _address(environment)
    if address is None:
        return None
    try:
        fields = _ask(address, _headers(environment))
        expires = calendar.timegm(time.strptime(fields["Expiration"][:19], "%Y-%m-%dT%H:%M:%S"))
        return _valid(AccessKey(fields["AccessKeyId"], fields["SecretAccessKey"], fields["Token"], float(expires)))
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return None  # botocore repeats it, and names the reason


def _headers(environment: Mapping[str, str]) -> Dict[str, str]:
    file = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    if file is not None:
        token = Path(file).read_text(encoding="utf-8")
    return {} if token is None else {"Authorization": token}


def _ask(address: Tuple[str, int, str], headers: Mapping[str, str]) -> Dict[str, Any]:
    """Return the fields of an answer.

    Raises:
        OSError: there is no answer.
        ValueError: it is another answer.
    """
    host, port, path = address
    connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    try:
        connection.request("GET", path, headers={"Accept": "application/json", **headers})
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError("status %d" % answer.status)
        fields: Dict[str, Any] = json.loads(answer.read().decode("utf-8"))
        return fields
    finally:
        connection.close()
