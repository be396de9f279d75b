"""Packed values on the caller's side: the errors name the value, the part of it and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.container.remote import packing
from processing.exceptions import ConfigurationError, DeserializationError, SerializationError

if TYPE_CHECKING:
    from processing.container.remote.packing import Buffer, PackedValue


def pack(value: Any, name: str) -> PackedValue:
    """Pack a value into chunks of bytes. They refer to the memory of its arrays.

    Args:
        value: any value.
        name: the value's name in messages, such as `divide` or `arguments`.

    Raises:
        ConfigurationError: cloudpickle is not installed.
        SerializationError: the value cannot be serialized.
    """
    require_cloudpickle()
    try:
        return packing.pack(value)
    except Exception as error:
        raise SerializationError(f"{name}: cannot be serialized: {type(error).__name__}: {error}") from error


def unpack(memory: Buffer, source: str) -> Any:
    """Load a packed value whose origin has been checked. Arrays in it refer to the memory.

    Args:
        memory: all bytes of the packed value.
        source: the origin of the bytes, for messages.

    Raises:
        ConfigurationError: cloudpickle is not installed.
        DeserializationError: the bytes are not a packed value, or it cannot be loaded here.
    """
    require_cloudpickle()
    try:
        return packing.unpack(memory)
    except packing.PackingError as error:
        raise DeserializationError(f"{source}: {error}") from error
    except (Exception, SystemExit) as error:
        raise DeserializationError(f"{source}: the value cannot be loaded: {type(error).__name__}: {error}") from error


def require_cloudpickle() -> None:
    """Refuse to go on without cloudpickle.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import cloudpickle  # noqa: F401 - its presence is the question
    except ImportError as error:
        raise ConfigurationError(
            "remote functions need cloudpickle; install it with `pip install 'sm-processing[remote]'`"
        ) from error
