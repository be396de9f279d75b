"""The jobs of the engine: creation, execution, supervision, and the removal of jobs whose processes were killed.

Nothing is imported here: a supervisor loads the modules that it needs and few others. It starts without attrs, whose
import takes longer than the rest of its start. So values that supervisors use are NamedTuples, and all other frozen
values of the engine are attrs classes.
"""
