"""The job card: what a job did, as HTML and SVG for notebooks and for one file without any other.

All modules work on plain values. `processing.job` reads them from AWS, and has the methods `_repr_html_`.
"""
