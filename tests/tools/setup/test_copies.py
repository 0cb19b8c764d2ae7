"""A path, a name, a remote beyond ASCII: `doctor` says that --temp fails, and how it works."""

from pathlib import Path

import pytest
from project import ENVIRONMENT, run

from stages.tools.setup import copies

STAGE = "stages:\n  s:\n    cmd: cp params.yaml out\n    params: [a]\n    outs: [out]\n"


def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one stage, committed, in the working folder."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    run("git", "init", "-q", cwd=folder)
    run("dvc", "init", "-q", cwd=folder)
    Path("params.yaml").write_text("a: 1\n")
    Path("dvc.yaml").write_text(STAGE)
    Path(".gitignore").write_text("/out\n")
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", "first", cwd=folder)
    return folder


def copied(folder: Path, value: int) -> bool:
    """Whether `--temp` works, as a person sees it."""
    done = run("dvc", "exp", "run", "--temp", "-S", f"a={value}", cwd=folder, check=False)
    if done.returncode:
        assert "'ascii' codec can't encode" in done.stdout + done.stderr
    return done.returncode == 0


def said() -> list[str]:
    found = list(copies.findings())
    assert all(good is None or good for good, _ in found)  # nothing that `dvc repro` needs
    return [line for good, line in found if good is None]


def test_a_path_beyond_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `doctor` advises is done here, and is enough."""
    folder = project(tmp_path / "\u00e9 \u65e5" / "p", monkeypatch)
    (line,) = said()
    assert "dvc cache dir --local PATH" in line and not copied(folder, 2)
    (folder / ".dvc/cache").mkdir(exist_ok=True)
    (folder / ".dvc/cache").rename(tmp_path / "cache")
    run("dvc", "cache", "dir", "--local", str(tmp_path / "cache"), cwd=folder)
    assert said() == [] and copied(folder, 3)


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (("git", "config", "user.name", "Jos\u00e9"), "name"),
        (("git", "remote", "add", "origin", "/home/\u00e9"), "url"),
    ],
)
def test_settings_beyond_ascii(
    command: tuple[str, ...], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(tmp_path / "p", monkeypatch)
    assert said() == [] and copied(folder, 2)
    run(*command, cwd=folder)
    (line,) = said()
    assert word in line and "--global" in line and not copied(folder, 3)


def test_outside_a_project_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(copies.findings()) == []
