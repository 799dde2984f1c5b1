"""Performance profiles (Dolan & Moré 2002)."""

from __future__ import annotations

from collections.abc import Mapping


def performance_profile(
    costs: Mapping[str, Mapping[str, float]],
) -> dict[str, tuple[list[float], list[float]]]:
    """Share of problems each method solves within `tau` times the best cost, as steps `(tau, share)`.

    :param costs: `costs[method][problem]`, `inf` for unsolved; a missing problem is unsolved.
    """
    problems = sorted({problem for of_method in costs.values() for problem in of_method})
    best = {
        problem: min(of_method.get(problem, float("inf")) for of_method in costs.values())
        for problem in problems
    }
    ratios = {
        method: sorted(
            of_method.get(problem, float("inf")) / best[problem]
            for problem in problems
            if best[problem] < float("inf")
        )
        for method, of_method in costs.items()
    }
    finite = [ratio for of_method in ratios.values() for ratio in of_method if ratio < float("inf")]
    last = 1.1 * max(finite, default=1.0)
    curves = {}
    for method, of_method in ratios.items():
        steps = [ratio for ratio in of_method if ratio < float("inf")]
        shares = [(k + 1) / len(problems) for k in range(len(steps))]
        curves[method] = (
            [1.0, *steps, last],
            [0.0, *shares, shares[-1] if shares else 0.0],
        )
    return curves
