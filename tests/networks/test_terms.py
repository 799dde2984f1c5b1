"""Terms of potentials with their gradients in one pass, in the order of memory that strips use."""

from __future__ import annotations

import pytest
import torch

from tests.networks.test_potentials import IMAGE, points
from tests.tables import POTENTIALS, PotentialCase, over, perturbed


@over("case", POTENTIALS)
def test_terms_of_groupwise_potentials(case: PotentialCase) -> None:
    """Those that weights multiply, from arguments that are one group behind the other."""
    potential = perturbed(case.build())
    members = case.channels // case.groups
    for image in ((), IMAGE):
        for u in points(case, *image):
            # members of a group side by side in a model, and in a dimension of their own here
            u = torch.cat([u, -u.roll(1, 1)])
            grouped = u.unflatten(1, (case.groups, members)).transpose(1, 2).clone()
            if not potential.groupwise:
                with pytest.raises(NotImplementedError, match="share channels"):
                    potential.terms_and_grad(grouped)
                continue
            terms, force = potential.terms_and_grad(grouped)
            assert terms.shape == (2, case.groups, *image)
            value, grad = potential.value_and_grad(u)
            torch.testing.assert_close(terms.sum(1), value, rtol=1e-13, atol=1e-13)
            torch.testing.assert_close(
                force.transpose(1, 2).flatten(1, 2), grad, rtol=1e-13, atol=0
            )
            for term, row in zip(terms.unbind(1), torch.eye(case.groups).double(), strict=True):
                expected = potential.value(u, row.reshape(1, -1, *[1] * len(image)))
                torch.testing.assert_close(term, expected, rtol=1e-13, atol=1e-13)
