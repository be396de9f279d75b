"""Conversion of values to XML and back, guided by their shapes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from processing.local.errors import ApiError
from processing.local.protocols.values import from_text, to_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.model import Shape

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'

# A parser reads a bare carriage return as a newline, so it is written as a reference. XML 1.0 forbids the other control
# characters. S3 writes them as references nevertheless, and clients may ask for encoding-type=url.
_SPECIAL = re.compile(r"[&<>\"\x00-\x08\x0b-\x1f\x7f]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def escape(text: str) -> str:
    """Return the text with references for special characters."""
    return _SPECIAL.sub(lambda match: _NAMED.get(match[0]) or f"&#{ord(match[0])};", text)


def element(name: str, text: str) -> str:
    """Return an element that contains a text."""
    return f"<{name}>{escape(text)}</{name}>"


def write(shape: Shape, value: Any, name: str) -> str:
    """Return a value as an element of that name. A flattened list becomes several elements."""
    pieces: list[str] = []
    _write(shape, value, name, pieces)
    return "".join(pieces)


def member_name(shape: Any, key: str) -> str:
    """Return the name of a member in XML and in forms. A flattened list has the name of its elements."""
    if shape.type_name == "list" and shape.serialization.get("flattened"):
        key = shape.member.serialization.get("name", key)
    name: str = shape.serialization.get("name", key)
    return name


def write_members(shape: Any, value: Mapping[str, Any], *, skip_located: bool = False) -> str:
    """Return the members of a structure as elements, without an enclosing element.

    Args:
        shape: the shape of the structure.
        value: the members. Members that are None are left out.
        skip_located: whether to leave out members outside the body, such as headers.
    """
    pieces: list[str] = []
    for key, member in shape.members.items():
        if value.get(key) is not None and not (skip_located and "location" in member.serialization):
            _write(member, value[key], member_name(member, key), pieces)
    return "".join(pieces)


def _write(shape: Any, value: Any, name: str, pieces: list[str]) -> None:
    kind = shape.type_name
    if kind == "structure":
        pieces.append(f"<{name}{_attributes(shape, value)}>")
        for key, member in shape.members.items():
            if value.get(key) is not None and not member.serialization.get("xmlAttribute"):
                _write(member, value[key], member_name(member, key), pieces)
        pieces.append(f"</{name}>")
    elif kind == "list":
        flattened = shape.serialization.get("flattened")
        inner = name if flattened else shape.member.serialization.get("name", "member")
        pieces.append("" if flattened else f"<{name}>")
        for member in value:
            _write(shape.member, member, inner, pieces)
        pieces.append("" if flattened else f"</{name}>")
    elif kind == "map":
        key_name = shape.key.serialization.get("name", "key")
        value_name = shape.value.serialization.get("name", "value")
        flattened = shape.serialization.get("flattened")
        inner = name if flattened else "entry"
        pieces.append("" if flattened else f"<{name}>")
        for key, member in value.items():
            pieces.append(f"<{inner}>{element(key_name, key)}")
            _write(shape.value, member, value_name, pieces)
            pieces.append(f"</{inner}>")
        pieces.append("" if flattened else f"</{name}>")
    else:
        pieces.append(element(name, to_text(shape, value)))


def _attributes(shape: Any, value: Mapping[str, Any]) -> str:
    """Return the members that are attributes of the structure's tag, such as the type of a grantee."""
    pieces = []
    for key, member in shape.members.items():
        if member.serialization.get("xmlAttribute") and value.get(key) is not None:
            text = escape(to_text(member, value[key])).replace("\t", "&#9;").replace("\n", "&#10;")
            pieces.append(f' {member.serialization["name"]}="{text}"')
    space = shape.serialization.get("xmlNamespace")
    if pieces and isinstance(space, dict):
        pieces.insert(0, f' xmlns:{space["prefix"]}="{space["uri"]}"')
    return "".join(pieces)


def parse(text: bytes) -> ET.Element:
    """Return the root element.

    Raises:
        ApiError: the text is not well-formed (`MalformedXML`).
    """
    try:
        # expat loads no external entities, and limits the expansion of internal ones.
        return ET.fromstring(text)  # noqa: S314 - expat's limits suffice, see above
    except (ET.ParseError, ValueError, LookupError):  # the latter two: an encoding that there is not, or not for XML
        raise ApiError(
            "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"
        ) from None


def read(shape: Any, node: ET.Element) -> Any:
    """Return the value of an element. Namespaces, and elements that the shape lacks, are ignored."""
    kind = shape.type_name
    if kind == "structure":
        children = _children(node)
        found = {}
        for key, member in shape.members.items():
            nodes = children.get(member.serialization.get("name", key))
            if nodes:
                flattened = member.type_name == "list" and member.serialization.get("flattened")
                found[key] = [read(member.member, each) for each in nodes] if flattened else read(member, nodes[0])
        return found
    if kind == "list":
        return [read(shape.member, each) for each in node]
    if kind == "map":
        entries = [_children(entry) for entry in node]
        key_name = shape.key.serialization.get("name", "key")
        value_name = shape.value.serialization.get("name", "value")
        return {entry[key_name][0].text or "": read(shape.value, entry[value_name][0]) for entry in entries}
    return from_text(shape, node.text or "")


def _children(node: ET.Element) -> dict[str, list[ET.Element]]:
    children: dict[str, list[ET.Element]] = {}
    for child in node:
        children.setdefault(child.tag.rpartition("}")[2], []).append(child)
    return children
