"""Curvature models in a basis of the channels: their inverse, sums, multiples and parts of a batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convexreg.solvers.curvature import Curvature, Preconditioner, SumPreconditioner
from tests.tables import over

SHAPES = {"even": (3, 4, 6), "odd": (3, 5, 3)}
KINDS: dict[str, tuple[int, int, bool]] = {
    "in a basis": (3, 3, True),
    "one symbol in a basis": (1, 3, True),
    "one diagonal in a basis": (3, 1, True),
    "per channel": (3, 3, False),
    "masked colour": (1, 3, False),
    "gray": (1, 1, False),
}
"""Channels of the symbol and of the diagonal, and whether there is a basis."""


def orthonormal(channels: int = 3) -> Tensor:
    return torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64)).Q.contiguous()


def modelled(
    kind: tuple[int, int, bool], shape: tuple[int, ...], batch: int = 2, basis: Tensor | None = None
) -> Curvature:
    """A random model: spectra of real even kernels, and diagonals that vary tenfold."""
    symbols, diagonals, rotated = kind
    impulse = torch.randn(batch, symbols, *shape[1:], dtype=torch.float64)
    symbol = torch.fft.rfft2(impulse).abs().square() / 10 + 0.5
    diagonal = 0.2 + 2 * torch.rand(batch, diagonals, *shape[1:], dtype=torch.float64)
    if rotated and basis is None:
        basis = orthonormal()
    return Curvature(symbol, diagonal, basis=basis if rotated else None)


def dense(model: Curvature, image: int, shape: tuple[int, ...]) -> Tensor:
    """`Q^T D^{1/2} C D^{1/2} Q` of an image, `D` relative to its mean, entry by entry.

    The mean is that over the pixels a symbol is for: of a channel if it has one of its own.
    """
    channels, height, width = shape
    symbol, diagonal = (
        item[min(image, item.shape[0] - 1)] for item in (model.symbol, model.diagonal)
    )
    kernels = torch.fft.irfft2(symbol.expand(-1, height, width // 2 + 1), s=(height, width))
    pixels = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    apart = (pixels.unsqueeze(1) - pixels) % torch.tensor([height, width])
    circulant = kernels[:, apart[..., 0], apart[..., 1]].expand(channels, -1, -1)
    mean = diagonal.mean((1, 2), keepdim=True) if len(symbol) > 1 else diagonal.mean()
    root = (diagonal / mean).sqrt().expand(shape).flatten()
    middle = root.unsqueeze(1) * torch.block_diag(*circulant) * root
    if model.basis is None:
        return middle
    rotation = torch.kron(model.basis, torch.eye(height * width, dtype=torch.float64))
    return rotation.T @ middle @ rotation


def inverses(precondition: Preconditioner, shape: tuple[int, ...], batch: int = 2) -> list[Tensor]:
    """The matrix for every image of a batch, from the same inputs on all of them."""
    size = torch.Size(shape).numel()
    units = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    columns = [precondition(unit.expand(batch, *shape)).flatten(1) for unit in units]
    return list(torch.stack(columns, 2))


@over("shape", SHAPES)
@over("kind", KINDS)
def test_a_preconditioner_is_the_inverse_of_its_model(
    kind: tuple[int, int, bool], shape: tuple[int, ...]
) -> None:
    """Symmetric and positive definite, on every image with the model of that image."""
    model = modelled(kind, shape)
    for image, inverse in enumerate(inverses(Preconditioner(model), shape)):
        torch.testing.assert_close(inverse, inverse.T, rtol=0, atol=1e-13)
        assert torch.linalg.eigvalsh(inverse)[0] > 0
        expected = torch.linalg.inv(dense(model, image, shape))
        torch.testing.assert_close(inverse, expected, rtol=1e-9, atol=1e-11)


@over("kind", KINDS)
def test_multiples_and_parts_of_a_batch(kind: tuple[int, int, bool]) -> None:
    shape = SHAPES["even"]
    model = modelled(kind, shape, 3)
    model = model.plus(Curvature.constant(torch.zeros(3, *shape).double(), 0.4), torch.tensor(1.0))
    grad = torch.randn(3, *shape, dtype=torch.float64)
    for precondition in (Preconditioner, SumPreconditioner):
        direction = precondition(model)(grad)
        factor = torch.tensor([0.5, 2.0, 3.0]).double()
        for numbers in (factor, factor[1]):
            scaled = precondition(model.scaled(numbers))(grad)
            expected = direction / numbers.reshape(-1, 1, 1, 1)
            torch.testing.assert_close(scaled, expected, rtol=1e-12, atol=1e-13)
        for index in (torch.tensor([2, 0]), torch.tensor([1])):
            alone = precondition(model.subset(index))(grad[index])
            torch.testing.assert_close(alone, direction[index], rtol=1e-12, atol=1e-13)
    part = model.scaled(torch.tensor(2.0)).subset(torch.tensor([0]))
    assert part.basis is model.basis
    assert [term.basis is None for term in part.terms] == [model.basis is None, True]


@pytest.mark.parametrize("turned", [False, True])
@over("kind", KINDS)
def test_sums_with_what_is_the_same_in_every_direction(
    kind: tuple[int, int, bool], turned: bool
) -> None:
    """A model of equal channels knows no basis: the sum has the other one's, and its mean diagonal."""
    shape, scale = SHAPES["odd"], torch.tensor([0.3, 2.0]).double()
    model, gray = modelled(kind, shape), modelled(KINDS["gray"], shape)
    if turned:
        total, one, two = gray.plus(model, scale), gray, model.scaled(scale)
    else:
        total, one, two = model.plus(gray, scale), model, gray.scaled(scale)
    assert total.basis is model.basis
    torch.testing.assert_close(total.symbol, one.symbol + two.symbol)
    torch.testing.assert_close(total.diagonal, one.diagonal + two.diagonal)
    assert len(total.terms) == 2
    for term, summand in zip(total.terms, (one, two), strict=True):
        torch.testing.assert_close(term.symbol, summand.symbol)
        assert term.basis is summand.basis
    for image, inverse in enumerate(inverses(Preconditioner(total), shape)):
        expected = torch.linalg.inv(dense(total, image, shape))
        torch.testing.assert_close(inverse, expected, rtol=1e-9, atol=1e-11)


@over("kind", KINDS)
def test_a_multiple_of_the_identity_is_added_exactly(kind: tuple[int, int, bool]) -> None:
    """To a model whose diagonal is the same everywhere, as a multiple of the identity is."""
    shape = SHAPES["even"]
    model = modelled(kind, shape)
    model = Curvature(model.symbol, torch.ones_like(model.diagonal), basis=model.basis)
    identity = Curvature.constant(torch.zeros(2, *shape).double(), 0.7)
    scale = torch.tensor([0.5, 3.0]).double()
    total = model.plus(identity, scale)
    for precondition in (Preconditioner, SumPreconditioner):
        v = torch.randn(2, *shape, dtype=torch.float64)
        direction = precondition(total)(v).flatten(1)
        for image in range(2):
            exact = dense(model, image, shape)
            exact = exact + 0.7 * scale[image] * torch.eye(len(exact), dtype=torch.float64)
            expected = torch.linalg.solve(exact, v[image].flatten())
            error = float((direction[image] - expected).norm() / expected.norm())
            assert error <= (1e-10 if precondition is Preconditioner else 0.1)


def test_what_differs_between_channels_becomes_its_mean_in_another_basis() -> None:
    """Both ways round, and with two bases that are not the same."""
    shape, one = SHAPES["even"], torch.tensor(1.0)
    mask = modelled(KINDS["masked colour"], shape)
    rotated, other = (modelled(KINDS["in a basis"], shape) for _ in range(2))
    mean = mask.diagonal.mean(1, keepdim=True)
    for total in (mask.plus(rotated, one), rotated.plus(mask, one)):
        assert total.basis is rotated.basis
        torch.testing.assert_close(total.symbol, rotated.symbol + mask.symbol)
        torch.testing.assert_close(total.diagonal, rotated.diagonal + mean)
    total = rotated.plus(other, one)
    assert total.basis is rotated.basis
    expected = rotated.symbol + other.symbol.mean(1, keepdim=True)
    torch.testing.assert_close(total.symbol, expected)
    same = modelled(KINDS["in a basis"], shape, basis=rotated.basis)
    total = rotated.plus(same, one)
    torch.testing.assert_close(total.symbol, rotated.symbol + same.symbol)
    torch.testing.assert_close(total.diagonal, rotated.diagonal + same.diagonal)


@over("kind", KINDS)
def test_sums_are_solved_to_a_tenth(kind: tuple[int, int, bool]) -> None:
    """With the models of all terms, each in its basis, and downhill on every image."""
    shape = SHAPES["even"]
    model, mask = modelled(kind, shape), modelled(KINDS["masked colour"], shape)
    flat = Curvature.constant(torch.zeros(2, *shape).double(), 0.5)
    total = model.plus(mask, torch.tensor(0.7)).plus(flat, torch.tensor(1.0))
    precondition = SumPreconditioner(total)
    summands = (model, mask.scaled(torch.tensor(0.7)), flat)
    for _ in range(3):
        v = torch.randn(2, *shape, dtype=torch.float64)
        direction = precondition(v)
        assert bool(((v * direction).flatten(1).sum(1) > 0).all())
        for image in range(2):
            exact = sum(dense(item, image, shape) for item in summands)
            left = v[image].flatten() - exact @ direction[image].flatten()
            assert left.norm() <= 0.1 * v[image].norm()


def test_an_image_without_curvature_is_left_as_it_is() -> None:
    shape = SHAPES["even"]
    model = modelled(KINDS["in a basis"], shape)
    present = torch.tensor([1.0, 0.0]).double()
    precondition = Preconditioner(model.scaled(present))
    v = torch.randn(2, *shape, dtype=torch.float64)
    torch.testing.assert_close(precondition(v)[1], v[1], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(precondition(v)[0], Preconditioner(model)(v)[0])
