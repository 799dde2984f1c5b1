"""Published weights of CPR, the convex patch regularizer of arXiv 2412.13070, as an infimal convolution.

The files are safetensors with the names of the authors' state dictionary and their configuration in the
metadata. CPR penalises every patch of an image, with circular boundary:

    R(x) = min_a  beta/2 |P (patches of x) - D a|^2 + sum_k s_k |a_k|,

`P` removes from a patch its mean and its part in the span of the free atoms, which cost nothing; the atoms
`D` are orthogonal to both; `|a_k|` is over blocks of pixels. As `P` and `D` see the complement of the
free atoms only, responses to an orthonormal basis of it are enough: 48 instead of 169 pixels of a patch.

Their proximal operator shrinks by `lambda exp(-scaling)`, while their function for the potential has
`lambda exp(scaling)`; iterations, and so training, know the former only. The `order` in the configuration is
of another penalty, of their nonconvex models.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from convexreg.models.files import ModelFileError
from convexreg.networks.conditioning import FixedScaling
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution
from convexreg.networks.potentials import InfimalConvolution
from convexreg.regularizer import ConvexRegularizer

_CONTRACTION = 0.99
"""Of a step of the authors' iteration on the codes: `beta |D|^2`."""


def convex_patch_regularizer(
    metadata: dict[str, str], weights: dict[str, Tensor], name: str
) -> ConvexRegularizer:
    """CPR from its tensors and the metadata of its file.

    :raises ModelFileError: settings that are missing, or of a model that is not convex.
    """
    prox = _settings(metadata, name)
    if prox["prox_type"] != "l1norm":
        raise ModelFileError(
            f"{name} has the penalty {prox['prox_type']!r}, which is not convex; only l1norm is read"
        )
    free, atoms = (weights[key].double().flatten(1) for key in ("free_atoms", "atoms"))
    side, beta = weights["atoms"].shape[-1], weights["beta"].double().clamp_min(0)
    basis = _complement(free - free.mean(1, keepdim=True))
    codes = (atoms - atoms.mean(1, keepdim=True)) @ basis  # one row per atom
    codes = codes / codes.norm(dim=1, keepdim=True)
    codes = codes * (_CONTRACTION / beta).sqrt() / torch.linalg.matrix_norm(codes, 2)
    thresholds = prox["lambda_init"] * (-weights["prox.scaling_lmbda"].double().flatten()).exp()
    operator = Convolution((1, basis.shape[1]), (side,), padding="circular", zero_mean=False)
    potential = InfimalConvolution(*codes.mT.shape, block=int(prox["groupsize"]))
    with torch.no_grad():
        operator.kernels[0].copy_(basis.mT.reshape(-1, 1, side, side))
        potential.atoms.copy_(codes.mT)
        potential.log_threshold.copy_((thresholds / beta).log())
    scaling = FixedScaling(torch.ones(1, 1), beta.float().reshape(1, 1))
    network = GradientModule(operator, potential, bias=False, conditioning=scaling)
    return ConvexRegularizer(network, name=name)


def _settings(metadata: dict[str, str], name: str) -> dict[str, Any]:
    try:
        prox = json.loads(metadata["config"])["prox"]
        return {key: prox[key] for key in ("prox_type", "lambda_init", "groupsize")}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{name} has no settings of its penalty in its metadata (config, prox: prox_type, lambda_init, "
            "groupsize)"
        ) from error


def _complement(free: Tensor) -> Tensor:
    """Orthonormal basis, in columns, of what is orthogonal to the rows and to constants.

    The authors orthonormalise the rows by iterations, which keep their span, all that `P` depends on.
    """
    constant = free.new_ones(1, free.shape[1])
    _, _, directions = torch.linalg.svd(torch.cat([free, constant]))
    return directions[free.shape[0] + 1 :].mT
