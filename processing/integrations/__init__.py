"""Jobs as tasks of other programs: an operator for Airflow, a Pipes client for Dagster.

Each module needs the package of its program, and nothing imports it but the user.
"""
