"""The knobs of the machine have one home; nothing else reads them or asks for the cores."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT, run

from stages.core import console, machine
from stages.core.errors import UserError

HOME = ROOT / "stages/core/machine.py"
FILES = sorted((ROOT / "stages").rglob("*.py"))


def test_processes_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "3")
    assert machine.workers() == machine.processes() == 3
    for odd in ("-1", "two", "1.5", ""):
        monkeypatch.setenv("WHITEN_MTD_WORKERS", odd)
        for count in (machine.workers, machine.processes):
            with pytest.raises(UserError, match="WHITEN_MTD_WORKERS"):
                count()


def test_processes_by_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHITEN_MTD_WORKERS", raising=False)
    for cores, workers in ((1, 0), (2, 1), (9, 8), (64, 8)):
        monkeypatch.setattr(machine, "cores", lambda n=cores: n)
        assert (machine.workers(), machine.processes()) == (workers, cores)


def test_the_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    assert machine.cores() == (os.cpu_count() or 1)


def test_one_folder_of_unfinished_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHITEN_MTD_SCRATCH", raising=False)
    assert machine.scratch() == Path(".scratch")
    monkeypatch.setenv("WHITEN_MTD_SCRATCH", str(tmp_path / "else"))
    console.keep_time("dvc.yaml:extract@a", 0.0)
    assert (tmp_path / "else/times/extract@a.json").is_file()


def test_threads_sleep_soon_where_others_want_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", *machine.SHORT_SPIN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "cores", lambda: 4)
    machine.spin_briefly(1)
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")  # its owner has chosen
    machine.spin_briefly(9)
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    for name in machine.SHORT_SPIN:
        monkeypatch.setenv(name, "")  # so that what is set below is taken back
        monkeypatch.delenv(name)
    machine.spin_briefly(2)
    assert {n: os.environ[n] for n in machine.SHORT_SPIN} == machine.SHORT_SPIN


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="nobody counts what runs here")
def test_a_stage_beside_busy_programs_spins_briefly() -> None:
    code = "import sys; sys.argv = ['-m']; import stages, os; print(os.environ['GOMP_SPINCOUNT'])"
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(2 * machine.cores())
    ]
    try:
        assert machine.others_running() >= machine.cores()
        assert run(sys.executable, "-c", code, cwd=ROOT).stdout.strip() == "1000"
    finally:
        for program in busy:
            program.kill()
            program.wait()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_other_file_reads_a_knob_or_counts_cores(path: Path) -> None:
    if path == HOME:
        return
    tree = ast.parse(path.read_text("utf-8"))
    called = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not called & {"sched_getaffinity", "sched_setaffinity", "cpu_count"}
    for node in ast.walk(tree):
        read = isinstance(node, ast.Call | ast.Subscript) and "environ" in ast.unparse(node)
        assert not (read and "WHITEN_MTD_" in ast.unparse(node)), ast.unparse(node)
        assert not (read and "getenv" in ast.unparse(node)), ast.unparse(node)


def test_the_table_names_every_knob_that_is_read() -> None:
    text = HOME.read_text("utf-8")
    table = set(re.findall(r"^\| (WHITEN_MTD_\w+)", text, re.M))
    read = {
        node.args[0].value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.environ.get"
        and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    assert table == read == {"WHITEN_MTD_WORKERS", "WHITEN_MTD_DEVICE", "WHITEN_MTD_SCRATCH"}
    messages = {k for f in FILES for k in re.findall(r"WHITEN_MTD_[A-Z]+", f.read_text("utf-8"))}
    assert messages <= table


def test_the_processor_has_a_name() -> None:
    assert machine.processor().strip()


def test_a_busy_machine_has_more_load_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = os.cpu_count() or 1
    assert machine.load() >= 0
    for load, busy in ((0.0, False), (float(cores), False), (cores + 0.1, True)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert machine.is_busy(machine.load()) is busy
        assert bool(machine.busy(machine.load())) is busy
    assert f"load {cores + 0.1:g} before it, {cores} cores" in machine.busy(machine.load())

    def unknown() -> tuple[float, float, float]:
        raise OSError("no load average here")

    monkeypatch.setattr(os, "getloadavg", unknown)
    assert machine.load() == 0.0
