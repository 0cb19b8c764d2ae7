"""A Python that cannot run the project says so in a line, before anything is imported."""

import subprocess
import sys
import tomllib
from pathlib import Path

from project import ROOT

import stages


def test_a_wrong_python_is_one_line(tmp_path: Path) -> None:
    """A Python without packages: this one, without its site-packages."""
    command = [sys.executable, "-I", "-S", "-c"]
    code = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['-m']; "
    for module in ("stages.train", "stages"):
        done = subprocess.run(
            [*command, f"{code}runpy.run_module({module!r}, run_name='__main__')"],
            capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: this is {sys.executable}, which lacks typer, ")
        assert ".venv/bin/activate" in line


def test_what_is_needed_is_what_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = {d.split(">")[0] for d in project["dependencies"]}
    assert {"pillow" if n == "PIL" else n for n in stages.NEEDED} <= asked
    assert project["requires-python"] == f">={'.'.join(map(str, stages.OLDEST))}"
