"""The experiments of the papers: their baselines, their definitions, and a small run of each."""

from __future__ import annotations

import io
import math
import statistics
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.markdown import table_lines
from benchmarks.papers import approximation, colour, coupling, gradient_fields, polymax, score
from benchmarks.papers.ensemble import Ensemble, fit, minibatches
from benchmarks.papers.fields import BEYOND_RIDGES, CONVEX, NONCONVEX, PolyMax, grid
from benchmarks.papers.gaussian import Gaussian, normal_negative_log_density, standard_normal
from benchmarks.papers.networks import (
    AutoregressiveFlow,
    c_mgn,
    mgradnet_c,
    mgradnet_m,
    parameter_count,
)
from benchmarks.papers.objectives import change_of_variables, jacobian, squared_error
from benchmarks.papers.trials import best_variant, published, select
from benchmarks.records import read_rows
from benchmarks.registry import Benchmark, Options
from convexreg.baselines.icgn import ICGN
from convexreg.baselines.icnn import ICNN
from convexreg.baselines.mlp import MLP, MLPGradient
from convexreg.network import GradientNetwork
from tests import oracles
from tests.tables import over, perturbed

BASELINES = {
    "icnn": lambda: ICNN(3, [6, 5]),
    "icnn-one-layer": lambda: ICNN(3, [4]),
    "icnn-clipped": lambda: ICNN(3, [6, 5], clipped=True),
    "icgn": lambda: ICGN(3, 8, nodes=24),
    "mlp-gradient": lambda: MLPGradient(3, [6, 5]),
}


class TestBaselines:
    @over("build", BASELINES)
    def test_forward_is_the_gradient_of_the_potential(self, build) -> None:
        network = perturbed(build())
        x = torch.randn(9, 3, dtype=torch.float64)
        torch.testing.assert_close(
            network(x), oracles.gradient(network.potential, x), rtol=1e-8, atol=1e-9
        )

    @over("build", BASELINES)
    def test_jacobian_is_symmetric_and_within_its_bounds(self, build) -> None:
        network: GradientNetwork = perturbed(build())
        bound = float(network.lipschitz())
        for x in 2 * torch.randn(20, 1, 3, dtype=torch.float64):
            matrix = oracles.jacobian(network, x)
            torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-12)
            eigenvalues = torch.linalg.eigvalsh(matrix)
            assert eigenvalues[-1] <= bound
            assert not network.monotone or eigenvalues[0] >= -1e-12

    def test_the_bound_of_an_input_convex_network_is_not_vacuous(self) -> None:
        network = perturbed(ICNN(1, [1]), scale=0.0)
        network.skips[0].bias.zero_()
        at_the_bend = oracles.jacobian(network, torch.zeros(1, 1, dtype=torch.float64))
        assert float(at_the_bend) == pytest.approx(float(network.lipschitz()), rel=1e-12)

    def test_five_nodes_integrate_the_gram_of_an_icgn(self) -> None:
        """The closed form of the integral is `W^T (q(W x + b) - q(b))`, `q = s^2 / 2 - s^3 / 3`."""
        network = perturbed(ICGN(2, 8))
        x = torch.rand(50, 2, dtype=torch.float64)
        closed = oracles.gradient(network.potential, x)
        torch.testing.assert_close(network(x), closed, rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize("make", [lambda: ICNN(2, []), lambda: MLP([2])])
    def test_networks_without_layers_are_refused(self, make) -> None:
        with pytest.raises(ValueError, match="needs"):
            make()


class TestEnsemble:
    def test_members_are_the_networks_of_their_seeds(self) -> None:
        ensemble = Ensemble(lambda: mgradnet_m(2, 5, 2), [3, 7])
        x = torch.rand(2, 6, 2)
        for index, seed in enumerate((3, 7)):
            torch.manual_seed(seed)
            alone = mgradnet_m(2, 5, 2)
            torch.testing.assert_close(ensemble(x)[index], alone(x[index]))
            torch.testing.assert_close(ensemble.member(index)(x[index]), alone(x[index]))
        assert ensemble.parameter_count == parameter_count(alone)

    def test_trials_do_not_depend_on_their_company(self) -> None:
        x = torch.rand(3, 40, 2)
        y = CONVEX.gradient(x)

        def trained(first: int, last: int) -> Tensor:
            result = fit(
                lambda: c_mgn(2, 4, 2),
                squared_error,
                [[x[first:last], y[first:last]]] * 20,
                [x[first:last], y[first:last]],
                trials=last - first,
                seed=first,
                learning_rate=1e-2,
                validate_every=5,
            )
            return result.ensemble(x[first:last]).detach()

        torch.testing.assert_close(trained(0, 3)[1], trained(1, 2)[0], rtol=1e-4, atol=1e-5)

    def test_the_best_evaluation_is_kept(self) -> None:
        x = torch.rand(2, 30, 2)
        data = [x, CONVEX.gradient(x)]
        result = fit(
            lambda: nn.Linear(2, 2),
            squared_error,
            [data] * 40,
            data,
            trials=2,
            seed=0,
            learning_rate=3.0,
            validate_every=1,
        )
        with torch.no_grad():
            kept = result.ensemble.map(squared_error, *data)
        torch.testing.assert_close(kept, result.history.amin(0))
        assert (result.history[-1] > kept).any()

    def test_batches_cover_every_point_once_an_epoch(self) -> None:
        points = torch.arange(10.0).reshape(1, 10, 1).repeat(2, 1, 1)
        batches = list(
            minibatches(
                [points], epochs=2, batch_size=5, generator=torch.Generator().manual_seed(0)
            )
        )
        assert len(batches) == 4
        for epoch in (batches[:2], batches[2:]):
            seen = torch.cat([batch[0] for batch in epoch], 1)
            torch.testing.assert_close(seen.sort(1).values, points)


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

    def test_networks_are_monotone_gradients_and_methods_add_up(self, tmp_path: Path) -> None:
        colour.Colour().run(Options(tiny=True, methods=("M-MGN", "POT (linear)")), tmp_path)
        colour.Colour().run(Options(tiny=True, methods=("C-MGN",)), tmp_path)
        rows = {row["method"]: row for row in read_rows(tmp_path / "maps.csv")}
        assert rows.keys() == {"none", "M-MGN", "POT (linear)", "C-MGN"}
        for name in ("M-MGN", "C-MGN"):
            assert float(rows[name]["asymmetry"]) < 1e-6
            assert float(rows[name]["smallest_eigenvalue"]) >= 0
            assert float(rows[name]["reversed"]) == 0


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


EXPERIMENTS: dict[str, tuple[Benchmark, str]] = {
    "convex-field": (gradient_fields.ConvexField(), "trials.csv"),
    "nonconvex-field": (gradient_fields.NonconvexField(), "trials.csv"),
    "small-field": (gradient_fields.SmallField(), "trials.csv"),
    "polymax": (polymax.PolyMaxField(), "trials.csv"),
    "approximation": (approximation.Approximation(), "trials.csv"),
    "coupling": (coupling.Coupling(), "trials.csv"),
    "colour": (colour.Colour(), "maps.csv"),
    "score": (score.Score(), "trials.csv"),
}


class TestExperiments:
    @over("case", EXPERIMENTS)
    def test_a_small_run_writes_files_tables_and_figures(self, case, tmp_path: Path) -> None:
        experiment, file = case
        experiment.run(Options(tiny=True), tmp_path)
        rows = read_rows(tmp_path / file)
        assert rows
        assert all(row.keys() == rows[0].keys() for row in rows)
        for table in experiment.tables(tmp_path):
            assert len(table_lines(table).splitlines()) > 4
        for figure in experiment.figures(tmp_path):
            drawn = io.BytesIO()
            figure.canvas.savefig(drawn, format="svg")
            assert b"</svg>" in drawn.getvalue()

    def test_only_the_methods_asked_for_run_and_the_others_stay(self, tmp_path: Path) -> None:
        experiment = gradient_fields.ConvexField()

        def results() -> dict[str, list[str]]:
            rows = read_rows(tmp_path / "trials.csv")
            return {
                name: [row["rmse"] for row in rows if row["network"] == name]
                for name in {row["network"] for row in rows}
            }

        experiment.run(Options(tiny=True, methods=("C-MGN",)), tmp_path)
        first = results()
        assert first.keys() == {"C-MGN"}
        experiment.run(Options(tiny=True, methods=("ICNN",), seed=5), tmp_path)
        assert results().keys() == {"C-MGN", "ICNN"}
        assert results()["C-MGN"] == first["C-MGN"]
        assert read_rows(tmp_path / "errors.csv")[0].keys() == {"C-MGN", "ICNN"}
        experiment.run(Options(tiny=True, methods=("C-MGN",), seed=5), tmp_path)
        assert results()["C-MGN"] != first["C-MGN"]
        assert len(results()["C-MGN"]) == len(first["C-MGN"])
        with pytest.raises(ValueError, match="there is no method 'CMGN'"):
            experiment.run(Options(tiny=True, methods=("CMGN",)), tmp_path)

    def test_a_run_is_determined_by_its_seed(self, tmp_path: Path) -> None:
        experiment = gradient_fields.ConvexField()
        results = []
        for seed in (0, 0, 1):
            experiment.run(Options(tiny=True, methods=("mGradNet-C",), seed=seed), tmp_path)
            results.append([row["rmse"] for row in read_rows(tmp_path / "trials.csv")])
        assert results[0] == results[1] != results[2]

    def test_decibels_of_the_root_are_half_of_those_of_the_square(self, tmp_path: Path) -> None:
        experiment = gradient_fields.NonconvexField()
        experiment.run(Options(tiny=True, methods=("MLP",)), tmp_path)
        for row in read_rows(tmp_path / "trials.csv"):
            rmse = float(row["rmse"])
            assert float(row["rmse_db"]) == pytest.approx(10 * math.log10(rmse), abs=1e-2)
            assert float(row["mse_db"]) == pytest.approx(10 * math.log10(rmse**2), abs=1e-2)

    def test_the_best_variant_is_chosen_by_validation(self) -> None:
        rows = [
            {"variant": name, "validation": str(value), "test": str(test)}
            for name, value, test in (("a", 1, 9), ("a", 3, 9), ("b", 2.5, 0), ("b", 2.5, 0))
        ]
        chosen = best_variant(rows, "variant", "validation")
        assert chosen == select(rows, variant="a")
        assert statistics.fmean(float(row["test"]) for row in chosen) == 9


class TestTraining:
    def test_a_cascade_learns_the_convex_field(self) -> None:
        """A short run passes what ICGN reaches in the paper after 200 epochs."""
        generator = torch.Generator().manual_seed(0)
        x = CONVEX.sample(1, 20_000, generator=generator)
        data = [x, CONVEX.gradient(x)]
        result = fit(
            lambda: mgradnet_c(2, 7, 4),
            squared_error,
            minibatches(data, epochs=30, batch_size=500, generator=generator),
            data,
            trials=1,
            seed=0,
            learning_rate=5e-3,
            validate_every=200,
        )
        rmse_db = 5 * math.log10(float(result.history.min()))
        assert rmse_db < published("convex-field")["rows"]["ICGN"]["rmse"]
