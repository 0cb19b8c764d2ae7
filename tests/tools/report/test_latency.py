"""Milliseconds of a busy machine say so, are kept with its load, and measured again when free."""

import os
from pathlib import Path

import pytest

from stages.core import files
from stages.tools.report import latency

CONFIG = {"model": "test_efficientnet", "dim": 8, "head": True, "pool": "gem", "gem_p": 3.0}
BUSY = float(os.cpu_count() or 1) + 7


def load_of(monkeypatch: pytest.MonkeyPatch, load: float) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))


def test_what_was_measured_on_a_busy_machine_says_so_until_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, file = latency.of_student(CONFIG, 48, "1"), tmp_path / "speed.json"
    load_of(monkeypatch, BUSY)
    costs = latency.measured([spec], file)
    assert "busy machine" in latency.busy(costs.values())
    stored = files.read_json(file)[latency.machine()][files.digest_of(spec)]
    assert stored["load"] == BUSY
    capsys.readouterr()
    assert latency.measured([spec], file) == costs  # still busy: nothing better can be had
    assert "timing" not in capsys.readouterr().err
    load_of(monkeypatch, 0.0)
    costs = latency.measured([spec], file)
    assert "timing" in capsys.readouterr().err and latency.busy(costs.values()) == ""
    assert latency.known([spec], file) == costs


def test_a_table_of_an_earlier_version_has_no_load(tmp_path: Path) -> None:
    spec, file = latency.of_student(CONFIG, 48, "1"), tmp_path / "speed.json"
    old = {"ms": 3.0, "parameters": 5}
    files.write_text(file, files.to_json({latency.machine(): {files.digest_of(spec): old}}))
    costs = latency.known([spec], file)
    assert list(costs.values()) == [old] and latency.busy(costs.values()) == ""
