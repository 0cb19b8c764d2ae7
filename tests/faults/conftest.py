"""The tiny world run to its end by its commands, once for all processes; the closing table."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from PIL import Image
from project import ROOT, stage, write_params
from trial import COMMANDS, KILLS, MUTATIONS

ALSO = (
    "whiten b data/prepared/train.h5 data/features/b.h5 models/whitening/b.h5 data/whitened/b.h5",
    "describe b data/prepared/evaluation data/described/b",
    "describe models/untrained data/prepared/evaluation data/described/untrained",
)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every stage run, an export, an index and an old checkpoint: not to be changed."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / "finished world"
    with FileLock(base / "finished.lock"):
        if not (base / "finished").exists():
            _make(folder)
            (base / "finished").touch()
    return folder


def _make(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pyc*"))
    write_params(folder / "params.yaml")
    by_name = {c.name: c.line.removeprefix("stages.") for c in COMMANDS}
    extract = by_name["extract"]
    for line in (
        by_name["prepare"], extract, extract.replace(" a ", " b ").replace("a.h5", "b.h5"),
        by_name["whiten"], ALSO[0], by_name["fuse"], by_name["train"],
        by_name["describe a teacher"], by_name["describe the student"], *ALSO[1:],
        by_name["evaluate"],
    ):  # fmt: skip
        stage(*line.split(), cwd=folder)
    for name in ("export", "index"):
        stage("__main__", *by_name[name].split()[1:], cwd=folder)
    (folder / "more").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30), (80 * number, 20, 90)).save(folder / f"more/{number}.png")
    old = {"state_dict": {"head.weight": torch.ones(3, 4), "head.bias": torch.zeros(3)}}
    torch.save(old, folder / "old.pt")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of docs/reliability.md: what was tried, what it came to."""
    rows = [
        (report.outcome, dict(report.user_properties))
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if getattr(report, "when", "") == "call" and report.user_properties
    ]
    if not rows:
        return
    line = terminalreporter.write_line
    line("")
    line("| what | tried | came to | violations |")
    line("|---|---:|---|---:|")
    for outcome, row in sorted(rows, key=lambda r: (r[1]["group"], r[1]["order"])):
        came = ", ".join(f"{count} {what}" for what, count in sorted(row["came"].items()))
        line(
            f"| {row['what']} | {sum(row['came'].values())} | {came} | {int(outcome != 'passed')} |"
        )
    line(f"KILLS={KILLS} MUTATIONS={MUTATIONS}")
