"""Performance profiles (Dolan & Moré 2002)."""

from __future__ import annotations

from pandas import DataFrame


def performance_profile(costs: DataFrame) -> dict[str, tuple[list[float], list[float]]]:
    """Share of problems each method solves within `tau` times the best cost, as steps `(tau, share)`.

    :param costs: one row per problem, one column per method, NaN for unsolved.
    """
    ratios = costs.div(costs.min(axis=1), axis=0)
    last = 1.1 * ratios.max(axis=None) if ratios.notna().any(axis=None) else 1.1
    curves = {}
    for method in ratios:
        steps = ratios[method].dropna().sort_values().tolist()
        shares = [k / len(ratios) for k in range(len(steps) + 1)]
        curves[str(method)] = ([1.0, *steps, last], [*shares, shares[-1]])
    return curves
