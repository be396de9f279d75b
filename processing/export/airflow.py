"""The arguments of Airflow's `SageMakerProcessingOperator`, in whose texts Jinja templates are rendered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from processing.export.names import base_of, checked
from processing.export.placeholders import Expression, Template, check_placeholders, insert_placeholders, render

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_TEMPLATE: Final = re.compile(r"\{[{%#]|\r")
"""The characters of a text that Jinja would change."""


def operator_arguments(
    parameters: Mapping[str, Any], *, task_id: str | None = None, placeholders: object = None
) -> dict[str, Any]:
    """Return the arguments `task_id` and `config` of the operator.

    Args:
        parameters: the parameters of CreateProcessingJob.
        task_id: the task's name; None for the beginning of the job's name.
        placeholders: expressions of Jinja, such as `ds`, by name or path.

    Raises:
        ConfigurationError: a placeholder has no place in the request, or the task's name is not valid.
    """
    base = base_of(str(parameters["ProcessingJobName"]))
    task = checked("task_id", task_id, base, r"[\w.-]{1,250}", "letters, digits, dashes, dots and underscores")
    run = Template((f"{base}-", Expression("run_id.replace(':', '-').replace('+', '-')")))
    config = insert_placeholders(parameters, check_placeholders(placeholders), run)
    if isinstance(config["ProcessingJobName"], str):
        config["ProcessingJobName"] = base  # the operator makes it unique
    return {"task_id": task, "config": render(config, _template, _literal)}


def _template(template: Template) -> str:
    texts = [f"{{{{ {part.text} }}}}" if isinstance(part, Expression) else _piece(part) for part in template.parts]
    return "".join(texts)


def _piece(text: str) -> str:
    """Return a text before or after an expression: a brace at its end would join the expression's."""
    return _quoted(text) if text.endswith(("{", "\n")) else _literal(text)


def _literal(text: str) -> str:
    """Return the template that Jinja renders as the text."""
    # Jinja removes a line break at the end of a template.
    return _quoted(text) if _NO_TEMPLATE.search(text) or text.endswith("\n") else text


def _quoted(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "{": "\\x7b", "}": "\\x7d", "%": "\\x25"}
    escaped = "".join(escapes.get(character, character) for character in text)
    return f'{{{{ "{escaped}" }}}}'
