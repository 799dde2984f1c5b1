"""Training runs: they resume to the same bits, log what happened, and stop when it goes wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from convexreg.models.config import Architecture
from convexreg.networks.potentials import spline_roughness
from convexreg.pictures.files import Photograph, write_image
from convexreg.training.log import Record
from convexreg.training.objectives import Unrolled
from convexreg.training.settings import TrainingSettings
from convexreg.training.validation import denoised_psnr
from tests.problems import scenes, small_regularizer
from tests.training.trainings import OBJECTIVES, SETTINGS, log, training


def test_bfloat16_steps_follow_exact_ones(folder: Path, tmp_path: Path) -> None:
    """The same direction to a few percent, and validation exactly as without."""
    gradients, validations = [], []
    for coarse in (False, True):
        settings = replace(SETTINGS, bfloat16=coarse, steps=1)
        run = training(
            folder,
            tmp_path / str(coarse),
            objective="equilibrium",
            settings=settings,
            filters=32,
        )
        validations.append(run.validate())
        run.run()
        gradients.append(
            torch.cat(
                [p.grad.flatten() for p in run.regularizer.parameters() if p.grad is not None]
            )
        )
    exact, coarse = gradients
    assert not torch.equal(exact, coarse)
    assert (exact - coarse).norm() < 0.05 * exact.norm()
    assert validations[0] == validations[1]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    ("architecture", "interrupted_at"), [("mgradnet-m", 5), ("crr", 5), ("crr", 3)]
)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    folder: Path, tmp_path: Path, objective: str, architecture: Architecture, interrupted_at: int
) -> None:
    """The same bits and the same log, from another initial model and generator state."""
    options = {"objective": objective, "architecture": architecture}
    whole = training(folder, tmp_path / "whole", **options)
    expected = whole.run().state_dict()

    def interrupt(record: Record) -> None:
        if record.step == interrupted_at:
            raise KeyboardInterrupt

    first = training(folder, tmp_path / "parts", **options)
    with pytest.raises(KeyboardInterrupt):
        first.run(interrupt)
    second = training(folder, tmp_path / "parts", init=99, **options)
    if interrupted_at <= SETTINGS.checkpoint_every:
        # interrupted in the callback of step 3: before its checkpoint was written
        with pytest.raises(ValueError, match="no checkpoint"):
            second.resume()
        second = training(folder, tmp_path / "parts", **options)
    else:
        second.resume()
        assert second.step == 3
    result = second.run().state_dict()
    assert all(torch.equal(result[key], expected[key]) for key in expected)
    assert log(second) == log(whole)
    assert [line["step"] for line in log(second)] == list(range(1, SETTINGS.steps + 1))
    final, reference = load_file(second.checkpoint), load_file(whole.checkpoint)
    assert final.keys() == reference.keys()
    assert all(torch.equal(final[key], reference[key]) for key in final)


def test_learning_rates_follow_half_a_cosine(folder: Path, tmp_path: Path) -> None:
    run = training(folder, tmp_path)
    rates: list[list[float]] = []
    groups = run.optimizer.param_groups
    assert [group["lr"] for group in groups] == [
        SETTINGS.learning_rate,
        SETTINGS.conditioning_rate,
    ]
    run.run(lambda _: rates.append([group["lr"] for group in groups]))
    for step, (filters, others) in enumerate(rates, 1):
        factor = (1 + math.cos(math.pi * step / SETTINGS.steps)) / 2
        assert filters == pytest.approx(SETTINGS.learning_rate * factor, rel=1e-12)
        assert others == pytest.approx(SETTINGS.conditioning_rate * factor, rel=1e-12)
    filters = {id(p) for n, p in run.regularizer.named_parameters() if "kernels" in n}
    assert {id(p) for p in groups[0]["params"]} == filters
    assert len(groups[0]["params"]) + len(groups[1]["params"]) == len(
        list(run.regularizer.parameters())
    )


@pytest.mark.parametrize("setting", ["tv2", "flatness"])
def test_a_penalty_is_added_with_its_weight(folder: Path, tmp_path: Path, setting: str) -> None:
    """The loss of the first step: rough splines and large Lipschitz constants cost."""
    losses = []
    for weight in (0.0, 0.7):
        settings = replace(SETTINGS, steps=1, **{"tv2": 0.0, setting: weight})
        run = training(folder, tmp_path / str(weight), architecture="crr", settings=settings)
        run.run(lambda record: losses.append(record.loss))
    fresh = training(folder, tmp_path, architecture="crr")
    sigma = fresh.sampler.sample()[2]
    penalty = {
        "tv2": spline_roughness(fresh.regularizer),
        "flatness": fresh.regularizer.lipschitz(sigma=sigma[0]).log(),
    }[setting]
    assert penalty is not None
    expected = 0.7 * penalty.item()
    assert abs(expected) > 0.01
    assert losses[1] - losses[0] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_finished_run_has_nothing_left_to_do(folder: Path, tmp_path: Path) -> None:
    run = training(folder, tmp_path)
    expected = run.run().state_dict()
    again = training(folder, tmp_path, init=3)
    again.resume()
    result = again.run().state_dict()
    assert all(torch.equal(result[key], expected[key]) for key in expected)
    assert len(log(again)) == SETTINGS.steps
    assert not again.regularizer.training
    assert not any(parameter.requires_grad for parameter in again.regularizer.parameters())


def test_the_log_holds_validation_and_diagnostics(folder: Path, tmp_path: Path) -> None:
    run = training(folder, tmp_path, objective="equilibrium")
    records: list[Record] = []
    run.run(records.append)
    for record in records:
        validated = record.step % SETTINGS.validate_every == 0 or record.step == SETTINGS.steps
        # those of 5, 15, 25 and 50/255 that the model is made for
        assert set(record.validation_psnr or {}) == ({"15", "25", "50"} if validated else set())
        assert "backward_residual" in record.diagnostics
    assert [line["loss"] for line in log(run)] == [record.loss for record in records]


def test_the_final_validation_outlives_the_run(folder: Path, tmp_path: Path) -> None:
    """Resumed without validation images it comes from the log; without any log there is none."""
    run = training(folder, tmp_path)
    assert set(run.final_psnr) == {"15", "25", "50"}
    run.run()
    again = training(folder, tmp_path)
    again.validation = []
    assert again.validate() == {}
    again.resume()
    again.run()
    assert again.final_psnr == run.final_psnr == pytest.approx(run.validate(), abs=1e-12)


def test_an_incomplete_line_of_an_interrupted_log_is_dropped(folder: Path, tmp_path: Path) -> None:
    run = training(folder, tmp_path / "whole")
    run.run()
    parts = training(folder, tmp_path / "parts")

    def interrupt(record: Record) -> None:
        if record.step == 5:
            with parts.log.open("a") as file:
                file.write('{"step": 6, "lo')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts.run(interrupt)
    parts = training(folder, tmp_path / "parts")
    parts.resume()
    parts.run()
    assert log(parts) == log(run)


def test_resuming_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        training(folder, tmp_path).resume()
    training(folder, tmp_path).run()
    other = TrainingSettings(steps=8, batch_size=2, patch_size=12)
    with pytest.raises(ValueError, match="other settings"):
        training(folder, tmp_path, settings=other).resume()
    with pytest.raises(ValueError, match=r"other settings \(architecture\)"):
        training(folder, tmp_path, architecture="crr").resume()
    with pytest.raises(ValueError, match=r"other settings \(objective, unrolled steps\)"):
        training(folder, tmp_path, objective="score").resume()
    more = training(folder, tmp_path)
    more.objective = Unrolled(5)
    more.identity["objective"] = more.objective.settings
    with pytest.raises(ValueError, match=r"other settings \(unrolled steps\)"):
        more.resume()
    with pytest.raises(ValueError, match="holds a checkpoint of an earlier run"):
        training(folder, tmp_path).run()
    write_image(tmp_path / "one.png", Photograph(torch.rand(1, 20, 20), None, 8))
    with pytest.raises(ValueError, match=r"other settings \(images\)"):
        training(tmp_path, tmp_path).resume()
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(ValueError, match="is damaged"):
        training(folder, tmp_path).resume()


def test_denoised_psnr_depends_on_the_seed_only() -> None:
    regularizer = small_regularizer().float()
    image = scenes(1)[0].float()
    first = denoised_psnr(regularizer, image, 0.1, 7)
    torch.manual_seed(1)
    assert denoised_psnr(regularizer, image, 0.1, 7) == first
    assert denoised_psnr(regularizer, image, 0.1, 8) != first
