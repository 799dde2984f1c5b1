"""The experiments of the papers: their baselines, networks, fields and densities."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from torch import Tensor

from benchmarks.papers import colour, coupling, gradient_fields, polymax, score
from benchmarks.papers.baselines import ICGN, ICNN, MLPGradient
from benchmarks.papers.fields import BEYOND_RIDGES, CONVEX, NONCONVEX, PolyMax, grid
from benchmarks.papers.gaussian import Gaussian, normal_negative_log_density, standard_normal
from benchmarks.papers.networks import (
    AutoregressiveFlow,
)
from benchmarks.papers.objectives import change_of_variables, jacobian
from benchmarks.papers.trials import published
from convexreg.models.config import parameter_count
from tests import oracles
from tests.tables import over, perturbed

BASELINES = {
    "icnn": lambda: ICNN(3, [6, 5]),
    "icnn-one-layer": lambda: ICNN(3, [4]),
    "icnn-clipped": lambda: ICNN(3, [6, 5], clipped=True),
    "icgn": lambda: ICGN(3, 8),
    "mlp-gradient": lambda: MLPGradient(3, [6, 5]),
}


class TestBaselines:
    @over("build", BASELINES)
    def test_jacobian_is_that_of_a_gradient_convex_where_it_says_so(self, build) -> None:
        network = perturbed(build())
        for x in 2 * torch.randn(20, 1, 3, dtype=torch.float64):
            matrix = oracles.jacobian(network, x)
            torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-12)
            assert isinstance(network, MLPGradient) or torch.linalg.eigvalsh(matrix)[0] >= -1e-12

    def test_an_icgn_is_the_integral_of_its_gram_matrix(self) -> None:
        """By quadrature with 60 nodes, as it is defined."""
        network = perturbed(ICGN(2, 8))
        nodes, weights = numpy.polynomial.legendre.leggauss(60)
        for size in (1, 10):
            x = size * torch.rand(50, 2, dtype=torch.float64)
            u = network.operator(x)
            t = (torch.from_numpy(nodes) + 1) / 2
            s = torch.sigmoid(u.unsqueeze(-1) * t + network.bias.unsqueeze(-1))
            gram = (s * (1 - s)).square() @ torch.from_numpy(weights / 2)
            torch.testing.assert_close(network(x), network.operator.adjoint(gram * u))

    @pytest.mark.parametrize("make", [lambda: ICGN(1, 3), lambda: ICNN(1, [3, 3])])
    def test_large_weights_leave_baselines_monotone(self, make) -> None:
        """Where quadrature with few nodes is not, and softplus that ends at 20 jumps."""
        network = perturbed(make(), scale=30.0)
        x = torch.linspace(-5, 5, 2001, dtype=torch.float64).unsqueeze(1)
        grad = network(x)
        assert float(grad.diff(dim=0).min()) >= -1e-12 * float(grad.abs().max())


class TestFields:
    def test_the_gradients_are_those_of_the_paper(self) -> None:
        x = torch.rand(20, 2, dtype=torch.float64)
        a, b = x.unbind(-1)
        convex = torch.stack([4 * a**3 + a + b / 2, a / 2 + 3 * b - b**2], -1)
        torch.testing.assert_close(CONVEX.gradient(x), convex)
        pi = math.pi
        nonconvex = torch.stack(
            [
                pi / 2 * torch.cos(2 * pi * a) * torch.cos(pi * b) + b / 2,
                -pi / 4 * torch.sin(2 * pi * a) * torch.sin(pi * b) + a / 2 - b,
            ],
            -1,
        )
        torch.testing.assert_close(NONCONVEX.gradient(x), nonconvex)

    @over("field", BEYOND_RIDGES)
    def test_functions_beyond_ridges_are_convex(self, field) -> None:
        generator = torch.Generator().manual_seed(0)
        x, y = field.sample(2, 500, generator=generator).double()
        slope = (field.gradient(x) - field.gradient(y)) * (x - y)
        assert (slope.sum(-1) >= -1e-12).all()

    def test_polymax_is_the_gradient_of_the_maximum(self) -> None:
        d = 6
        field = PolyMax(d)
        i, j = torch.meshgrid(torch.arange(1.0, d + 1), torch.arange(1.0, d + 1), indexing="ij")
        alpha = (i + j - 2) / (2 * d - 2)
        distance = math.log(d) * (1 + (i - j).abs())
        forms = [2 + torch.sin(4 * math.pi * alpha), 1 + 2 * alpha, 3 - 2 * alpha]

        def largest(x: Tensor) -> Tensor:
            values = [((x - 0.5) @ (form / distance) * (x - 0.5)).sum(-1) for form in forms]
            return torch.stack(values).amax(0)

        x = torch.rand(2, 30, d)
        torch.testing.assert_close(field.gradient(x), field.scale * oracles.gradient(largest, x))
        many = torch.rand(20_000, d)
        assert float(field.gradient(many).norm(dim=-1).mean()) == pytest.approx(1, rel=0.02)

    def test_the_grid_is_uniform_and_closed(self) -> None:
        points = grid(3)
        assert points.tolist()[:4] == [[0, 0], [0.5, 0], [1, 0], [0, 0.5]]


class TestNetworks:
    @pytest.mark.parametrize(
        "experiment", [gradient_fields.ConvexField(), gradient_fields.NonconvexField()]
    )
    def test_about_a_hundred_parameters(self, experiment) -> None:
        for build in experiment.networks.values():
            assert parameter_count(build()) == pytest.approx(100, abs=6)

    @pytest.mark.parametrize(
        ("experiment", "names"),
        [
            (gradient_fields.ConvexField(), ("mGradNet-C", "mGradNet-M", "ICGN")),
            (gradient_fields.SmallField(), ("C-MGN", "ICGN")),
        ],
    )
    def test_the_networks_of_the_papers_have_their_counts(self, experiment, names) -> None:
        theirs = published(experiment.name)["rows"]
        for name in names:
            count = parameter_count(experiment.networks[name]())
            assert count == theirs[name]["parameters"]

    @pytest.mark.parametrize("dimension", [32, 256])
    def test_about_1024_parameters_a_dimension(self, dimension: int) -> None:
        for build in polymax.NETWORKS.values():
            with torch.device("meta"):
                network = build(dimension)
            assert parameter_count(network) == pytest.approx(1024 * dimension, rel=0.01)


class TestGaussian:
    def _draw(self, dimension: int) -> Gaussian:
        factor = torch.randn(dimension, dimension + 2, dtype=torch.float64)
        return Gaussian(torch.randn(dimension, dtype=torch.float64), factor @ factor.T)

    @pytest.mark.parametrize(("dimension", "cost"), [(2, 3.706), (16, 212.074)])
    def test_the_problems_have_the_published_optimal_costs(self, dimension, cost) -> None:
        optimum = coupling.problem(dimension).squared_distance(standard_normal(dimension))
        assert optimum == pytest.approx(cost, abs=1e-3)
        theirs = published("coupling")["optimal"][str(dimension)]
        assert optimum == pytest.approx(theirs, rel=1e-3)

    @pytest.mark.parametrize("method", ["whiten", "transport"])
    def test_maps_reach_the_standard_normal(self, method) -> None:
        gaussian = self._draw(4)
        transform = getattr(gaussian, method)
        origin = transform(gaussian.mean.unsqueeze(0))
        matrix = transform(torch.eye(4, dtype=torch.float64) + gaussian.mean).T
        torch.testing.assert_close(origin, torch.zeros(1, 4, dtype=torch.float64))
        torch.testing.assert_close(
            matrix @ gaussian.covariance @ matrix.T, torch.eye(4, dtype=torch.float64)
        )
        logarithm = torch.linalg.slogdet(matrix).logabsdet
        torch.testing.assert_close(logarithm, gaussian.log_scale)

    def test_the_optimal_map_has_the_optimal_cost(self) -> None:
        gaussian = self._draw(3)
        matrix = gaussian.transport(torch.eye(3, dtype=torch.float64) + gaussian.mean).T
        torch.testing.assert_close(matrix, matrix.T)
        move = torch.eye(3, dtype=torch.float64) - matrix
        cost = gaussian.mean.square().sum() + (move @ gaussian.covariance @ move.T).trace()
        distance = gaussian.squared_distance(standard_normal(3))
        assert distance == pytest.approx(float(cost), rel=1e-10)

    def test_density_and_distance_agree_with_torch_and_pot(self) -> None:
        import ot

        gaussian, other = self._draw(3), self._draw(3)
        x = torch.randn(7, 3, dtype=torch.float64)
        reference = torch.distributions.MultivariateNormal(gaussian.mean, gaussian.covariance)
        torch.testing.assert_close(gaussian.log_density(x), reference.log_prob(x))
        theirs = ot.gaussian.bures_wasserstein_distance(
            gaussian.mean, other.mean, gaussian.covariance, other.covariance
        )
        assert gaussian.squared_distance(other) == pytest.approx(float(theirs) ** 2, rel=1e-8)

    def test_an_autoregressive_flow_is_triangular(self) -> None:
        flow = AutoregressiveFlow(4, 8).double()
        matrices = jacobian(flow, torch.randn(6, 4, dtype=torch.float64))
        torch.testing.assert_close(matrices, matrices.tril())
        assert (matrices.diagonal(dim1=1, dim2=2) > 0).all()
        assert (matrices[:, 3, :3] != 0).all()

    def test_change_of_variables_of_a_linear_map_is_exact(self) -> None:
        matrix = torch.randn(3, 3, dtype=torch.float64)
        x = torch.randn(8, 3, dtype=torch.float64)
        value = change_of_variables(lambda points: points @ matrix.T, x)
        expected = normal_negative_log_density(x @ matrix.T).mean()
        expected -= torch.linalg.slogdet(matrix).logabsdet
        torch.testing.assert_close(value, expected)


class TestColour:
    def _gaussian(self) -> Gaussian:
        factor = torch.randn(3, 5, dtype=torch.float64)
        return Gaussian(torch.rand(3, dtype=torch.float64), factor @ factor.T)

    def test_a_positive_symmetric_map_is_measured_as_a_monotone_gradient(self) -> None:
        gaussian = self._gaussian()
        colours = gaussian.sample(2000, generator=torch.Generator().manual_seed(0)).double()
        source = Gaussian(colours.mean(0), torch.cov(colours.T))
        row = colour._measure(source.transport, colours, standard_normal(3))
        matrix = source.transport(torch.eye(3) + source.mean)
        smallest = float(torch.linalg.eigvalsh(matrix)[0])
        assert float(row["smallest_eigenvalue"]) == pytest.approx(smallest, abs=1e-4)
        assert float(row["asymmetry"]) < 1e-8
        assert float(row["reversed"]) == float(row["moments"]) == 0
        entropy = 1.5 * math.log(2 * math.pi * math.e)
        assert float(row["nll"]) == pytest.approx(entropy, abs=2e-3)
        logarithm = torch.linalg.slogdet(matrix).logabsdet
        assert float(row["change_of_variables"]) == pytest.approx(
            entropy - float(logarithm), abs=2e-3
        )

    def test_a_rotation_is_seen_not_to_be_monotone(self) -> None:
        colours = torch.rand(500, 3, dtype=torch.float64)
        cyclic = colour._measure(lambda points: 1 - points.roll(1, 1), colours, self._gaussian())
        assert float(cyclic["smallest_eigenvalue"]) == pytest.approx(-1, abs=1e-4)
        assert float(cyclic["asymmetry"]) == pytest.approx(1, abs=1e-4)
        assert float(cyclic["reversed"]) > 10


class TestScore:
    @over("density", score.DENSITIES)
    def test_the_blurred_density_is_the_mean_over_the_noise(self, density) -> None:
        """`p_sigma(y) = E p(y - sigma n)`, up to one constant factor for all `y`."""
        sigma, tiny = 0.7, 1e-3
        nodes = torch.linspace(-6, 6, 241, dtype=torch.float64)
        a, b = torch.meshgrid(nodes, nodes, indexing="ij")
        noise = torch.stack([a, b], -1).reshape(-1, 2)
        weights = torch.exp(-noise.square().sum(-1) / 2)
        y = torch.randn(5, 1, 2, dtype=torch.float64)
        clean = torch.exp(-density.energy(y - sigma * noise, tiny))
        blurred = (clean * weights).sum(1)
        ours = torch.exp(-density.energy(y[:, 0], math.hypot(sigma, tiny)))
        # the energies leave out a constant that depends on sigma
        ratio = blurred / ours
        torch.testing.assert_close(ratio / ratio[0], torch.ones_like(ratio), rtol=2e-3, atol=0)

    @over("density", score.DENSITIES)
    def test_the_score_is_monotone(self, density) -> None:
        for x in 3 * torch.randn(30, 1, 2, dtype=torch.float64):
            matrix = oracles.jacobian(lambda points: density.score(points, 0.5), x)
            torch.testing.assert_close(matrix, matrix.T)
            assert torch.linalg.eigvalsh(matrix)[0] > -1e-12

    @over("density", score.DENSITIES)
    def test_samples_have_the_density(self, density) -> None:
        """`E[x . score(x)] = d` for every density, by integration by parts."""
        generator = torch.Generator().manual_seed(1)
        clean = density.sample((200_000,), generator)
        noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        y = clean + 0.5 * noise
        assert float((y * density.score(y, 0.5)).sum(-1).mean()) == pytest.approx(2, abs=0.03)
