"""The minimum of a smooth convex function, by L-BFGS with a backtracking line search."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

_MEMORY = 10  # steps whose curvature is remembered
_STEPS = 1000
_GRADIENT = 1e-8  # its largest entry at the minimum
_DECREASE = 1e-4  # the share of the promised decrease that a step must have
_SHORTEST = 1e-12


def minimize(
    function: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return where a function is smallest.

    Args:
        function: returns the value and the gradient at a point.
        start: the first point.
    """
    import numpy as np

    point = start
    value, gradient = function(point)
    history: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for _ in range(_STEPS):
        if np.abs(gradient).max() <= _GRADIENT:
            break
        direction = _direction(gradient, history)
        slope = float(direction @ gradient)
        length = 1.0 if history else min(1.0, 1 / float(np.abs(gradient).sum()))
        while True:
            following, (next_value, next_gradient) = (at := point + length * direction), function(at)
            if next_value <= value + _DECREASE * length * slope or length < _SHORTEST:
                break
            length /= 2
        if length < _SHORTEST:  # rounding errors hide any further decrease
            break
        step, change = following - point, next_gradient - gradient
        if step @ change > 0:
            history = [*history, (step, change)][-_MEMORY:]
        point, value, gradient = following, next_value, next_gradient
    return point


def _direction(
    gradient: NDArray[np.float64], history: list[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> NDArray[np.float64]:
    """Return minus the gradient, multiplied by the estimate of the inverse Hessian matrix."""
    direction = -gradient
    factors = []
    for step, change in reversed(history):
        factor = (step @ direction) / (step @ change)
        factors.append(factor)
        direction = direction - factor * change
    if history:
        step, change = history[-1]
        direction = direction * ((step @ change) / (change @ change))
    for (step, change), factor in zip(history, reversed(factors), strict=True):
        direction = direction + step * (factor - (change @ direction) / (step @ change))
    return direction
