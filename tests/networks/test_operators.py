"""Operators: exact adjoints, exact derivatives, proven norms."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from convexreg.networks.convolution import analysis, compose_kernels, synthesis
from convexreg.networks.operators import Convolution
from tests.oracles import in_float64, largest_eigenvalues, matrix
from tests.tables import OPERATORS, OperatorCase, over

DRAWS = 200
PADDINGS = ("zero", "circular")
# square and not, divisible by the block of 4 or not, below and above the blocked path's least size
SIZES = [(3, 5), (7, 9), (8, 8), (9, 11), (10, 13), (12, 16), (15, 8)]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@over("case", OPERATORS)
def test_adjoint_is_the_transpose(case: OperatorCase) -> None:
    operator = case.build().double()
    dense = matrix(operator, case.shape)
    output = operator(random(2, *case.shape))
    transpose = matrix(operator.adjoint, output.shape[1:])
    assert output.shape[1] == operator.out_channels
    torch.testing.assert_close(transpose, dense.T, rtol=0, atol=1e-13)
    x, z = random(2, *case.shape), torch.randn_like(output)
    torch.testing.assert_close((operator(x) * z).sum(), (x * operator.adjoint(z)).sum())


@over("case", OPERATORS)
def test_is_linear_and_treats_images_apart(case: OperatorCase) -> None:
    operator = case.build().double()
    dense = matrix(operator, case.shape)
    x = random(3, *case.shape)
    expected = (x.flatten(1) @ dense.T).reshape(3, operator.out_channels, *case.shape[1:])
    torch.testing.assert_close(operator(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [(1, 5), (3, 4), (9, 2)], ids=str)
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_synthesis_equals_transposed_convolution(
    channels: tuple[int, int], kernel_size: int, size: tuple[int, int], padding: str
) -> None:
    """The blocked form (at most 8 input channels, sides of at least 8) and the plain one."""
    kernel = random(channels[1], channels[0], kernel_size, kernel_size)
    z = random(2, channels[1], *size)
    half = kernel_size // 2
    if padding == "zero":
        expected = functional.conv_transpose2d(z, kernel, padding=half)
    else:
        # the adjoint of wrapping around adds what fell over the edge back
        full = functional.conv_transpose2d(z, kernel)
        rows = (torch.arange(full.shape[2]) - half) % size[0]
        columns = (torch.arange(full.shape[3]) - half) % size[1]
        expected = torch.zeros(2, channels[0], *size, dtype=torch.float64)
        index = rows.unsqueeze(1) * size[1] + columns
        expected.flatten(2).index_add_(2, index.flatten(), full.flatten(2))
    torch.testing.assert_close(synthesis(z, kernel, padding), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [4, 8, 16, 24, 32, 48, 64, 96])
@pytest.mark.parametrize("size", [3, 5, 7, 9, 13])
def test_bfloat16_synthesis_rounds_and_no_more(channels: int, size: int) -> None:
    kernel, z = torch.randn(channels, 1, size, size), torch.randn(2, channels, 13, 18)
    exact = synthesis(z, kernel, "zero")
    coarse = synthesis(z, kernel, "zero", bfloat16=True)
    # the products and the result are rounded to 2^-8
    assert ((coarse - exact).abs() <= 2**-6 * synthesis(z.abs(), kernel.abs(), "zero")).all()
    assert torch.equal(coarse, exact) == (channels % 32 > 0)


def test_bfloat16_is_for_float32_and_for_the_adjoint() -> None:
    kernel, z = torch.randn(32, 1, 5, 5), torch.randn(2, 32, 13, 11)
    exact, coarse = (synthesis(z, kernel, "zero", bfloat16=b) for b in (False, True))
    assert coarse.dtype == torch.float32
    assert not torch.equal(coarse, exact)
    double, coarse_double = (
        synthesis(z.double(), kernel.double(), "zero", bfloat16=b) for b in (False, True)
    )
    assert torch.equal(double, coarse_double)
    x = torch.randn(2, 1, 13, 11)
    assert torch.equal(analysis(x, kernel, "zero", bfloat16=True), analysis(x, kernel, "zero"))


def test_bfloat16_reaches_backward_passes_in_other_threads() -> None:
    """CUDA runs them in threads of its own, where no state of the caller's thread arrives."""
    operator = Convolution((1, 32), (5,), zero_mean=False)
    x, z = torch.randn(2, 1, 13, 11, requires_grad=True), torch.randn(2, 32, 13, 11)
    for operator.bfloat16 in (True, False):
        expected = operator.adjoint(z)
        output = operator(x)
        operator.bfloat16 = not operator.bfloat16  # what was on when it was evaluated counts
        with ThreadPoolExecutor(1) as pool:
            (grad,) = pool.submit(torch.autograd.grad, output, x, z).result()
        assert torch.equal(grad, expected)
        operator.bfloat16 = not operator.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("padding", PADDINGS)
def test_autocast_changes_nothing(padding: str, dtype: torch.dtype) -> None:
    """Of the maps, their derivatives and the derivatives of those, wherever autocast is on."""
    kernel, x = (
        torch.randn(8, 1, 3, 3, requires_grad=True),
        torch.randn(2, 1, 9, 8).requires_grad_(),
    )
    z, direction = torch.randn(2, 8, 9, 8), torch.randn(2, 1, 9, 8)

    def results() -> list[Tensor]:
        response = analysis(x, kernel, padding)
        loss = (response.tanh() * z).sum() + synthesis(response, kernel, padding).square().sum()
        first = torch.autograd.grad(loss, (x, kernel), create_graph=True)
        second = torch.autograd.grad((first[0] * direction).sum(), (x, kernel))
        return [response, *first, *second]

    expected = results()
    with torch.autocast("cpu", dtype):
        within = results()
    for one, other in zip(within, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [(4, 5), (8, 9)], ids=str)
@pytest.mark.parametrize("function", [analysis, synthesis], ids=lambda f: f.__name__)
def test_derivatives(function, size: tuple[int, int], padding: str) -> None:
    kernel = random(3, 2, 3, 3).requires_grad_()
    channels = 2 if function is analysis else 3
    x = random(1, channels, *size).requires_grad_()
    assert gradcheck(lambda x, kernel: function(x, kernel, padding), (x, kernel), fast_mode=True)
    assert gradgradcheck(lambda x, k: function(x, k, padding), (x, kernel), fast_mode=True)


@pytest.mark.parametrize("sizes", [(3,), (3, 5), (5, 3, 1), (1, 3)], ids=str)
def test_composed_kernel_is_the_chain(sizes: tuple[int, ...]) -> None:
    channels = [2, 3, 1, 4][: len(sizes) + 1]
    kernels = [
        random(after, before, size, size)
        for before, after, size in zip(channels, channels[1:], sizes, strict=False)
    ]
    x = chained = random(2, 2, 9, 11)
    for kernel in kernels:
        chained = analysis(chained, kernel, "circular")
    composed = compose_kernels(kernels)
    assert composed.shape[-1] == sum(sizes) - len(sizes) + 1
    torch.testing.assert_close(analysis(x, composed, "circular"), chained, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("staged", [False, True])
def test_zero_mean_kernels_ignore_constants(padding: str, staged: bool) -> None:
    operator = Convolution((1, 3, 4), (5, 3), padding=padding, staged=staged).double()
    image = operator(torch.full((1, 1, 12, 13), 0.7, dtype=torch.float64))
    interior = image if padding == "circular" else image[..., 3:-3, 3:-3]
    assert interior.abs().max() < 1e-13
    operator.zero_mean = False
    assert operator(torch.ones(1, 1, 12, 13, dtype=torch.float64)).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@over("case", OPERATORS)
def test_norm_bound(
    case: OperatorCase, dtype: torch.dtype, record_property: pytest.RecordProperty
) -> None:
    """Never below the norm, and at most the documented ceiling above it, over random kernels.

    Without weights, for every size and for this one; with one row of weights per image.
    """
    image_size = case.shape[1:] or None
    ratios: dict[str, list[float]] = {"any size": [], "this size": [], "weights": []}
    for _ in range(DRAWS):
        operator = case.build().to(dtype).requires_grad_(False)
        weights = torch.rand(2, operator.out_channels, dtype=dtype) ** 4
        bounds = (
            operator.squared_norm().reshape(1),
            operator.squared_norm(image_size=image_size).reshape(1),
            operator.squared_norm(weights, image_size),
        )
        ones = torch.ones(1, operator.out_channels)
        truths = largest_eigenvalues(
            matrix(in_float64(operator), case.shape), torch.cat([ones, ones, weights])
        ).split([1, 1, 2])
        for values, bound, truth in zip(ratios.values(), bounds, truths, strict=True):
            assert bound.dtype == dtype
            values += (bound.double() / truth).tolist()
    for name, values in ratios.items():
        record_property(f"largest bound / norm, {name}", max(values))
        assert min(values) >= 1 - 1e-13, name
        if not (case.exact and name == "any size"):
            assert max(values) <= case.ceiling + 6 * torch.finfo(dtype).eps, name


@pytest.mark.parametrize(("channels", "margin"), [((1, 7), 1.01), ((3, 7), 1.04)], ids=str)
@torch.no_grad()
def test_bound_for_every_size_is_nearly_attained(channels: tuple[int, int], margin: float) -> None:
    """By large images: within the margin of the grid, 1 % for gray and 4 % for colour."""
    for _ in range(10):
        operator = Convolution(channels, (5,), padding="circular").double()
        supremum = operator.squared_norm(image_size=(240, 241))
        bound = operator.squared_norm()
        assert bound >= supremum * (1 - 1e-11)
        assert bound <= supremum * margin


@over("case", OPERATORS)
def test_norm_bound_is_differentiable(case: OperatorCase) -> None:
    operator = case.build().double()
    weights = torch.rand(operator.out_channels, dtype=torch.float64, requires_grad=True)
    operator.squared_norm(weights, case.shape[1:] or None).backward()
    slopes = weights.grad
    assert slopes is not None
    assert (slopes >= -1e-12).all()  # more weight, larger norm
    # homogeneous of degree one in the weights (Euler)
    value = operator.squared_norm(weights.detach(), case.shape[1:] or None)
    torch.testing.assert_close(slopes @ weights.detach(), value)
    for parameter in operator.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_float32_and_float64_agree() -> None:
    operator = Convolution((1, 4, 8), (5, 5)).double()
    x = random(2, 1, 17, 19)
    expected = operator.adjoint(operator(x))
    single = operator.float()
    torch.testing.assert_close(
        single.adjoint(single(x.float())).double(), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((1, 2), (3, 3)), {}, "needs 3 channel counts"),
        (((1,), ()), {}, "channel counts"),
        (((1, 2), (4,)), {}, "odd"),
        (((1, 2), (0,)), {}, "odd"),
        (((1, 2), (3,)), {"padding": "reflect"}, '"zero" or "circular"'),
    ],
)
def test_impossible_settings_are_refused(arguments, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Convolution(*arguments, **options)


def test_images_smaller_than_the_circular_padding_are_refused() -> None:
    operator = Convolution((1, 2), (9,), padding="circular")
    with pytest.raises(ValueError, match="at least 4 pixels a side"):
        operator(torch.zeros(1, 1, 3, 8))
    with pytest.raises(ValueError, match="at least 4 pixels a side"):
        operator.adjoint(torch.zeros(1, 2, 8, 3))
