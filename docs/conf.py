"""Settings of Sphinx: `python -m sphinx -b html -W docs docs/_build/html`."""

from importlib.metadata import version as installed_version

project = "sm-processing"
copyright = "the sm-processing authors"
release = version = installed_version("sm-processing")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"sm-processing {release}"
default_role = "code"  # docstrings write `names` as Markdown does
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_mock_imports = [
    "pyspark"
]  # the classes of stages are described without 800 MB of Spark
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_custom_sections = []
