"""What the command line says beside its results goes through `logging`."""

from __future__ import annotations

import logging

import numpy

from convexreg.cli.log import LOG, show_log
from convexreg.cli.parser import main


def test_notes_and_errors_are_records_and_lines(tmp_path, capsys):
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    keep = Keep()
    LOG.addHandler(keep)
    try:
        numpy.save(tmp_path / "dark.npy", numpy.full((16, 16), 3000, numpy.uint16))
        out = str(tmp_path / "out.npy")
        assert main(["denoise", str(tmp_path / "dark.npy"), "-o", out, "--sigma", "0.01"]) == 0
        assert main(["denoise", str(tmp_path / "none.png"), "-o", out]) == 2
    finally:
        LOG.removeHandler(keep)
    assert [record.levelname for record in records] == ["INFO", "ERROR"]
    note, error = capsys.readouterr().err.splitlines()
    assert note == f"convexreg: note: {records[0].getMessage()}"
    assert error == f"convexreg: error: {records[1].getMessage()}"


def test_each_line_is_shown_once(capsys):
    show_log()
    show_log()
    LOG.info("100 %s", "%")
    assert capsys.readouterr().err == "convexreg: note: 100 %\n"
