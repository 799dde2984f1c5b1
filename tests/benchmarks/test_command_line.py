"""What the command line says about mistakes, and what it lists."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import main
from benchmarks.harness.registry import Benchmark, benchmarks, register


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "there is no benchmark 'nothing'"),
        (["run", "denoising", "--images", "/nowhere"], "neither a folder"),
        (["run", "denoising", "--methods", "TV,magic"], "there is no method 'magic'"),
        (["run", "deblurring", "--methods", "BM3D"], "there is no method 'BM3D' for deblurring"),
        (["run", "denoising", "--problems", "mri"], "there is no problem 'mri' of denoising"),
        (["run", "convergence", "--tiny", "--methods", "magic"], "there is no solver 'magic'"),
        (["run", "convergence", "--tiny", "--problems", "magic"], "there is no problem 'magic'"),
        (["run", "adaptive", "--tiny", "--problems", "magic"], "there is no problem 'magic'"),
        (["run", "learned", "--methods", "magic"], "there is no model 'magic'"),
        (["run", "deepinv", "--tiny", "--methods", "magic"], "there is no algorithm 'magic'"),
        (["run", "deepinv", "--tiny", "--problems", "magic"], "there is no part 'magic'"),
        (["run", "score", "--methods", "magic"], "there is no method 'magic'"),
        (["run", "adaptive", "--methods", "TV"], "adaptive cannot be restricted to methods"),
        (
            ["run", "denoising", "cost", "--problems", "mri"],
            "cost cannot be restricted to problems",
        ),
        (["run", "cost", "--load", "/nowhere.py"], "there is no Python file"),
        (["report", "--results", "/nowhere"], "there are no results"),
    ],
)
def test_mistakes_get_one_clear_sentence(arguments, message, tmp_path, capsys):
    if arguments[0] == "run":
        arguments = [*arguments, "--results", str(tmp_path)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "argument --threads: must be a whole number of at least 1"),
        (["--limit", "two"], "argument --limit: must be a whole number of at least 1"),
        (["--time-limit", "nan"], "argument --time-limit: must be a positive number"),
        (["--device", "sausage"], "argument --device: cannot compute on 'sausage'"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_code:
        main(["run", "cost", *arguments])
    assert exit_code.value.code == 2
    assert message in capsys.readouterr().err


def test_listing_names_everything(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in benchmarks())


def test_two_benchmarks_cannot_share_a_name():
    class Second(Benchmark):
        name = "cost"
        description = "again"

        def run(self, options, folder):
            raise NotImplementedError

    with pytest.raises(ValueError, match="already is a benchmark"):
        register(Second)
