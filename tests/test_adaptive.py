"""Adaptive regularizers: the weights they choose, both rounds, files, training, the command line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import deepinv
import pytest
import torch

from convexreg import (
    ConvexPrior,
    ConvexReconstructor,
    load_model,
    reconstruct,
    save_model,
)
from convexreg.adaptive import AdaptiveRegularizer
from convexreg.cli import parser as cli
from convexreg.models.config import Architecture
from convexreg.models.files import ModelFileError, regularizer_of
from convexreg.networks import tiling
from convexreg.networks.operators import Padding
from convexreg.networks.weight_network import WeightNetwork
from convexreg.pictures.files import Photograph, read_image, write_image
from convexreg.solvers import Status
from convexreg.training.data import ImageFolder
from convexreg.training.objectives import Accuracy, Equilibrium, TrainingObjective
from convexreg.training.run import TrainingRun
from convexreg.training.settings import TrainingSettings
from tests.oracles import gradient
from tests.tables import perturbed
from tests.test_regularizer import SIGMAS, SMALL, images

ADAPTIVE = replace(SMALL, adaptive=True, weight_width=24)


def adaptive() -> AdaptiveRegularizer:
    """With random parameters, so that rounds, filters and weights all differ."""
    return perturbed(ADAPTIVE.build_adaptive(), 0.1).eval()


def test_fresh_weights_are_those_of_the_classical_rule() -> None:
    network = WeightNetwork(4, width=16, slope=0.2, gain=1.5, limits=(1e-6, 1e6)).double()
    magnitudes = 5 * torch.rand(2, 4, 6, 7).double()
    expected = 1.5 / (1 + 0.2 * magnitudes)
    torch.testing.assert_close(network(magnitudes, 0.1), expected, rtol=2e-3, atol=0)


def test_weights_stay_within_their_limits() -> None:
    network = perturbed(WeightNetwork(4, width=16, limits=(1 / 8, 3.0)), 3.0)
    weights = network(1000 * torch.rand(2, 4, 6, 7).double(), torch.tensor([0.01, 0.2]))
    assert weights.min() >= (1 - 1e-12) / 8
    assert weights.max() <= 3 * (1 + 1e-12)
    assert weights.max() / weights.min() > 10


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("padding", ["zero", "circular"])
def test_tiles_change_no_weight(
    padding: Padding, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = perturbed(replace(ADAPTIVE, padding=padding).build_adaptive(), 0.3)
    x = torch.rand(2, channels, 33, 27).double()
    weights = model.weights(x, SIGMAS[:2])
    monkeypatch.setattr(tiling, "_SIDE", {"cpu": 8})
    torch.testing.assert_close(model.weights(x, SIGMAS[:2]), weights, rtol=1e-11, atol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_weights_in_holes_are_those_around_them(channels: int) -> None:
    model = adaptive()
    x = torch.rand(2, channels, 16, 17).double()
    seen = torch.ones(2, 1, 16, 17, dtype=torch.bool)
    seen[1, :, 5:11, 6:13] = False
    usual, filled = model.weights(x, 0.1), model.weights(x, 0.1, seen)
    per_image = len(usual) // 2
    assert torch.equal(usual[:per_image], filled[:per_image])
    known = seen[1:].expand_as(usual[per_image:])
    torch.testing.assert_close(filled[per_image:][known], usual[per_image:][known])
    for weights, new in zip(usual[per_image:], filled[per_image:], strict=True):
        low, high = weights[:, seen[1, 0]].aminmax(dim=1)
        assert ((new.amin((1, 2)) >= low - 1e-12) & (new.amax((1, 2)) <= high + 1e-12)).all()
    other = x.clone()
    other[1, :, 8, 9] += 1  # in the middle of the hole, out of sight of what is around it
    moved = model.weights(other, 0.1, seen)
    assert (moved[per_image:] - filled[per_image:]).abs().max() <= (
        model.weights(other, 0.1)[per_image:] - usual[per_image:]
    ).abs().max()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["denoising", "blur"])
def test_reconstruction_runs_both_rounds(name: str, channels: int) -> None:
    """The second round is the weighted problem of the first one's image, and certified as such."""
    model = adaptive()
    physics = deepinv.physics.Denoising()
    if name == "blur":
        physics = deepinv.physics.Blur(torch.ones(1, 1, 3, 3).double() / 9, padding="circular")
    x = torch.rand(2, channels, 9, 10).double()
    y = physics.A(x) + 0.1 * torch.randn_like(x)
    result = reconstruct(y, physics, sigma=0.1, regularizer=model)
    assert result.converged
    assert result.first is not None
    assert result.first.first is None
    assert (result.first.certificate.relative_gap <= 0.03).all()
    tolerance = 1e-3 if name == "denoising" else 1e-2
    assert (result.certificate.relative_gap <= tolerance).all()
    given = model.given(result.first.image, 0.1)
    same = reconstruct(y, physics, sigma=0.1, regularizer=given, x0=result.first.image)
    torch.testing.assert_close(same.image, result.image, rtol=0, atol=1e-12)
    _, metrics = ConvexReconstructor(model, sigma=0.1)(y, physics, x_gt=x, compute_metrics=True)
    for i, history in enumerate(metrics["psnr"]):
        assert len(history) == 1 + int(result.iterations[i] + result.first.iterations[i])
    plain = reconstruct(y, physics, sigma=0.1, regularizer=model.second)
    assert (plain.image - result.image).abs().max() > 1e-3
    lines = result.summary().splitlines()
    assert [line[:8] for line in lines] == ["round 0:", "round 1:"] * 2
    for i in range(2):
        alone = reconstruct(y[i : i + 1], physics, sigma=0.1, regularizer=model)
        torch.testing.assert_close(alone.image, result.image[i : i + 1], rtol=0, atol=1e-9)


def test_rounds_follow_each_other() -> None:
    """Three of them: every one has its weights from the image before, and only the last is solved tightly."""
    config = replace(ADAPTIVE, first=ADAPTIVE)
    model, physics = perturbed(config.build_adaptive(), 0.1).eval(), deepinv.physics.Denoising()
    assert isinstance(model.first, AdaptiveRegularizer)
    y = torch.rand(2, 1, 11, 10).double()
    result = reconstruct(y, physics, sigma=0.1, regularizer=model)
    first, second, last = result.rounds
    assert last is result
    assert (second.certificate.relative_gap <= 0.03).all()
    assert (last.certificate.relative_gap <= 1e-3).all()
    before = reconstruct(y, physics, sigma=0.1, regularizer=model.first)
    torch.testing.assert_close(before.rounds[0].image, first.image)
    for image, given, answer in (
        (first.image, model.first.given, before),
        (second.image, model.given, result),
    ):
        again = reconstruct(y, physics, sigma=0.1, regularizer=given(image, 0.1), x0=image)
        torch.testing.assert_close(again.image, answer.image, rtol=0, atol=1e-12)
    assert [line[:8] for line in result.summary().splitlines()[:3]] == [
        "round 0:", "round 1:", "round 2:"
    ]  # fmt: skip


def test_a_reconstruction_obeys_limits_and_options() -> None:
    model, y = adaptive(), torch.rand(1, 1, 9, 10).double()
    physics = deepinv.physics.Denoising()
    options = {"sigma": 0.1, "regularizer": model}
    boxed = reconstruct(y, physics, box=(0.2, 0.8), **options)
    assert boxed.converged
    assert 0.2 <= float(boxed.image.min()) <= float(boxed.image.max()) <= 0.8
    late = reconstruct(y, physics, time_limit=1e-9, gap_tol=1e-12, **options)
    assert int(late.status) == Status.TIME_LIMIT
    assert int(late.iterations) == 1
    tight = reconstruct(y, physics, gap_tol=1e-9, **options)
    assert float(tight.certificate.relative_gap) <= 1e-9
    chosen = reconstruct(y, physics, lam="discrepancy", **options)
    assert chosen.first is not None
    assert torch.equal(chosen.lam, chosen.first.lam)


def test_frozen_weights_make_a_prior_and_unfrozen_ones_do_not(tmp_path: Path) -> None:
    model = adaptive()
    x = torch.rand(2, 1, 9, 10).double()
    prior = ConvexPrior(model.given(x, 0.1))
    derivative = gradient(lambda points: prior.fn(points, 0.1), x)
    torch.testing.assert_close(prior.grad(x, 0.1), derivative, rtol=1e-8, atol=1e-11)
    point = prior.prox(x, 0.1, gamma=0.7)
    residual = point - x + 0.7 * prior.grad(point, 0.1)
    assert residual.square().mean().sqrt() <= 1e-5
    with pytest.raises(TypeError, match="Freeze it by"):
        regularizer_of(model, convex=True)
    save_model(tmp_path / "a.safetensors", model, ADAPTIVE, {})
    with pytest.raises(ModelFileError, match="is adaptive"):
        regularizer_of(tmp_path / "a.safetensors", convex=True)


def test_files_round_trip(tmp_path: Path) -> None:
    model = adaptive()
    save_model(tmp_path / "a.safetensors", model, ADAPTIVE, {"note": "n"})
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.config == ADAPTIVE
    assert isinstance(loaded.regularizer, AdaptiveRegularizer)
    again = load_model(tmp_path / "a.safetensors").regularizer.state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())
    x = torch.rand(1, 1, 9, 10).double()
    assert torch.equal(loaded.regularizer.weights(x, 0.1), model.weights(x, 0.1))
    assert not any(parameter.requires_grad for parameter in loaded.regularizer.parameters())


def test_the_reconstructor_differentiates_the_second_round() -> None:
    """In every parameter of the second round, and through its weights in those of the first one."""
    model = adaptive().requires_grad_(True)
    physics = deepinv.physics.Denoising()
    y = torch.rand(1, 1, 6, 7).double()
    reconstructor = ConvexReconstructor(model, sigma=0.1, gap_tol=1e-14)
    target = torch.rand_like(y)
    (reconstructor(y, physics) * target).sum().backward()
    assert any(bool((p.grad != 0).any()) for p in model.first.parameters() if p.grad is not None)
    first = reconstruct(y, physics, sigma=0.1, regularizer=model).first
    assert first is not None

    def outcome() -> float:
        with torch.no_grad():
            given = model.given(first.image, 0.1)
            image = reconstruct(y, physics, sigma=0.1, regularizer=given, gap_tol=1e-15).image
        return float((image * target).sum())

    for name, parameter in [*model.second.named_parameters(), *model.network.named_parameters()]:
        direction, start, values = torch.randn_like(parameter), parameter.data.clone(), []
        for step in (1e-7, -1e-7):  # so small that hardly any rectifier changes its state
            parameter.data = start + step * direction
            values.append(outcome())
        parameter.data = start
        assert parameter.grad is not None, name
        measured = float((parameter.grad * direction).sum())
        assert measured == pytest.approx((values[0] - values[1]) / 2e-7, rel=1e-4, abs=1e-6), name


# Training -------------------------------------------------------------------------------------


def test_the_equilibrium_objective_learns_the_weights() -> None:
    model = ADAPTIVE.build_adaptive()
    clean = images(model.first, 2).float()
    sigma = torch.tensor([0.05, 0.1])
    noisy = clean + sigma.reshape(-1, 1, 1, 1) * torch.randn_like(clean)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    objective = Equilibrium(Accuracy(1e-6, 1e-4, 300))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = objective.loss(model, clean, noisy, sigma)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("first."), name


def test_training_solves_the_rounds_that_reconstruct_solves() -> None:
    class Recorded(TrainingObjective):
        """Keeps what the last round is given."""

        def denoise(self, regularizer, noisy, sigma, start):
            self.given, self.start = regularizer, start
            return noisy

    model, objective = adaptive(), Recorded()
    noisy, sigma = torch.rand(2, 1, 9, 10).double(), torch.tensor([0.05, 0.1]).double()
    objective.loss(model, noisy + 0.1, noisy, sigma)
    physics = deepinv.physics.Denoising()
    first = reconstruct(noisy, physics, sigma=sigma, regularizer=model).first
    assert first is not None
    torch.testing.assert_close(objective.start, first.image, rtol=0, atol=1e-9)
    expected = model.given(first.image, sigma).grad(noisy, sigma)
    torch.testing.assert_close(objective.given.grad(noisy, sigma), expected)


@pytest.mark.parametrize("architecture", ["mgradnet-m", "crr"])
def test_runs_resume_and_leave_the_first_round_alone(
    architecture: Architecture, tmp_path: Path
) -> None:
    config = replace(ADAPTIVE, architecture=architecture)
    write_image(tmp_path / "a.png", Photograph(torch.rand(1, 16, 18), None, 8))
    settings = TrainingSettings(steps=4, batch_size=2, patch_size=12, checkpoint_every=2)

    def training(folder: str) -> TrainingRun:
        torch.manual_seed(0)
        return TrainingRun(
            config.build_adaptive(),
            config,
            Equilibrium(),
            ImageFolder(tmp_path).images,
            tmp_path / folder,
            settings,
        )

    whole = training("whole")
    start = {k: v.clone() for k, v in whole.regularizer.state_dict().items()}
    expected = whole.run().state_dict()
    for name, _ in whole.regularizer.named_parameters():
        assert torch.equal(expected[name], start[name]) == name.startswith("first."), name
    parts = training("parts")

    def interrupt(record) -> None:
        if record.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts.run(interrupt)
    again = training("parts")
    again.resume()
    result = again.run().state_dict()
    assert all(torch.equal(result[key], expected[key]) for key in expected)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Train a convex model, an adaptive one from it, and denoise with that."""
    folder = tmp_path / "photos"
    folder.mkdir()
    write_image(folder / "a.png", Photograph(torch.rand(1, 20, 24), None, 8))
    short = ["--steps", "1", "--batch-size", "1", "--patch-size", "16", "-q"]

    def run(*arguments: object) -> int:
        return cli.main([str(argument) for argument in arguments])

    convex, model = tmp_path / "convex.safetensors", tmp_path / "adaptive.safetensors"
    assert run("train", folder, "-o", convex, "--objective", "score", *short) == 0
    assert run("train", folder, "-o", model, "--adaptive", "--start", convex, *short) == 0
    card = load_model(model)
    assert card.config.adaptive
    assert isinstance(card.regularizer, AdaptiveRegularizer)
    first = load_model(convex).regularizer.state_dict()
    assert all(torch.equal(first[k], v) for k, v in card.regularizer.first.state_dict().items())
    noisy = tmp_path / "noisy.png"
    write_image(noisy, Photograph(torch.rand(3, 20, 24), None, 8))
    capsys.readouterr()
    result = tmp_path / "result.png"
    assert run("denoise", noisy, "-o", result, "--sigma", 0.1, "-m", model, "-q", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["certified_relative_gap"] <= 1e-3
    assert report["first_round"]["certified_relative_gap"] <= 0.031
    assert math.isclose(report["lam"], 1.0)
    assert read_image(result).pixels.shape == (3, 20, 24)
    assert run("info", model) == 0
    fresh = tmp_path / "c.safetensors"
    assert run("train", folder, "-o", fresh, "--adaptive", *short) == 2
    assert "give a trained model by --start" in capsys.readouterr().err
    assert run("train", folder, "-o", fresh, "--start", model, *short) == 2
    assert "--architecture mgradnet-m --adaptive" in capsys.readouterr().err
