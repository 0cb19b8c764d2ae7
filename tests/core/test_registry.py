"""A folder is a registry: what lies in it, by name, and what is near a wrong name."""

import sys
from pathlib import Path

import pytest

from stages.core import plugins
from stages.core.errors import UserError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "registry_of_a_test"
    folder.mkdir()
    for name in ("__init__", "gem", "delg", "_shared"):
        (folder / f"{name}.py").write_text(f"NAME = {name!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder.name


def test_names_are_files_without_an_underscore(package: str) -> None:
    assert plugins.names(package) == ["delg", "gem"]


def test_only_what_is_asked_for_is_imported(package: str) -> None:
    assert plugins.load(package, "gem").NAME == "gem"
    assert f"{package}.delg" not in sys.modules


def test_a_wrong_name_lists_the_choices(package: str) -> None:
    with pytest.raises(UserError, match=r"no 'gam' .*did you mean 'gem'.*choose from delg, gem"):
        plugins.load(package, "gam")
    with pytest.raises(UserError, match="no '_shared'"):
        plugins.load(package, "_shared")


def test_nearest_says_nothing_where_nothing_is_near() -> None:
    assert plugins.nearest("zebra", ["gem", "delg"]) == ""
    assert "'gem'" in plugins.nearest("gen", ["gem", "delg"])
