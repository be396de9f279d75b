"""The check of `configuration`, and the files that the engine writes from it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from processing import ConfigurationError
from processing.local.spark.settings_files import Classifications, write_settings
from processing.spark.configuration import configuration_body

if TYPE_CHECKING:
    from pathlib import Path

PATH = "configuration[0].Configurations[0].Properties"


def defaults(**properties: Any) -> dict[str, Any]:
    return {"Classification": "spark-defaults", "Properties": properties}


def environment(**variables: Any) -> dict[str, Any]:
    export = {"Classification": "export", "Properties": variables}
    return {"Classification": "spark-env", "Properties": {}, "Configurations": [export]}


@pytest.mark.parametrize(
    ("classification", "problems"),
    [
        (defaults(**{"spark.a": "1\nspark.b 2"}), ["configuration[0].Properties['spark.a']: the value has a line b"]),
        (defaults(**{"spark.a": "1\r"}), ["configuration[0].Properties['spark.a']: the value has a line break"]),
        (defaults(**{"spark.a": "1\0"}), ["configuration[0].Properties['spark.a']: the value has a line break"]),
        (defaults(**{"spark.a": "\ud800"}), ["configuration[0].Properties['spark.a']: the value has a line break"]),
        (defaults(**{"a\nb": "1"}), ["configuration[0].Properties['a\\nb']: the name has a line break"]),
        (defaults(**{"spark a": "1"}), ["configuration[0].Properties['spark a']: the name has a space, '='"]),
        (defaults(**{"spark.a=b": "1"}), ["configuration[0].Properties['spark.a=b']: the name has a space, '='"]),
        (defaults(**{"#spark.a": "1"}), ["configuration[0].Properties['#spark.a']: the name has a space, '='"]),
        (defaults(a=10**5000), ["configuration[0].Properties['a']: has too many digits"]),
        (
            {"Classification": "hive-site", "Properties": {"<a>": "1", "b c": "2"}},
            [
                "configuration[0].Properties['<a>']: the name has a character that XML does not allow",
                "configuration[0].Properties['b c']: the name has a character that XML does not allow",
            ],
        ),
        ({"Classification": "yarn-env", "Properties": {}}, ["configuration[0].Configurations: missing; give the var"]),
        (
            {"Classification": "spark-env", "Properties": {"A": "1"}, "Configurations": []},
            [
                "configuration[0].Properties: have no effect here; move them into Configurations, as [{'Classific",
                "configuration[0].Configurations: missing; give the variables as [{'Classification': 'export'",
            ],
        ),
        (environment(**{"a.b": "1"}), [f"{PATH}['a.b']: is not the name of an environment variable"]),
        (
            environment(A="x y"),
            [f"{PATH}['A']: is more than one word for the shell that reads it; quote it: \"'x y'\""],
        ),
        (environment(A="x;y"), [f"{PATH}['A']: is more than one word for the shell that reads it"]),
        (environment(A="x #y"), [f"{PATH}['A']: is more than one word for the shell that reads it"]),
        (environment(A="'x"), [f"{PATH}['A']: has a quote that is not closed"]),
    ],
)
def test_a_line_that_means_something_else_is_refused(classification: Any, problems: list[str]) -> None:
    """The container writes names and values as they are; each finding has the path of its field."""
    with pytest.raises(ConfigurationError) as caught:
        configuration_body([classification])
    assert len(caught.value.problems) == len(problems)
    for found, expected in zip(caught.value.problems, problems, strict=True):
        assert found.startswith(expected)


def test_values_reach_their_files(tmp_path: Path) -> None:
    """A URL with `&` is text in XML, an entity stays one, and a shell exports what is quoted or made by a command."""
    url = "jdbc:mysql://host/db?a=1&b=<2>"
    given = [
        {"Classification": "hive-site", "Properties": {"url": url, "entity": "a&amp;b&#38;", "number": 5}},
        {"Classification": "spark-hive-site", "Properties": {"more": "x=y z"}},
        environment(A="'x y'", B="", C="$(echo 1 2)", D="${A:-z}", E=3),
        {**defaults(**{"spark.a": "x  y=z #w", "spark.b": True, "spark.c": 0.5}), "Configurations": None},
    ]
    classifications = Classifications(json.loads(configuration_body(given)))
    write_settings(tmp_path / "conf", classifications, classifications.properties("spark-defaults"))
    site = ET.parse(tmp_path / "conf" / "hive-site.xml").getroot()
    found = {each.findtext("name"): each.findtext("value") for each in site}
    assert found == {"url": url, "entity": "a&b&", "number": "5", "more": "x=y z"}
    exports = (tmp_path / "conf" / "spark-env.sh").read_text()
    assert exports == "export A='x y'\nexport B=\nexport C=$(echo 1 2)\nexport D=${A:-z}\nexport E=3\n"
    lines = (tmp_path / "conf" / "spark-defaults.conf").read_text().splitlines()
    assert lines == ["spark.a x  y=z #w", "spark.b True", "spark.c 0.5"]
    assert given[0]["Properties"]["url"] == url
