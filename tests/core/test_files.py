"""Small files: whole under their name or not there at all; digests that mean the content."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from stages.core import files
from stages.core.errors import UserError

JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_file_that_fails_leaves_the_old_one_and_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "a.txt"
    files.write_text(target, "old")
    with pytest.raises(ValueError), files.atomic(target) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert target.read_text() == "old"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


@given(value=JSON)
def test_json_comes_back_and_its_digest_knows_no_order(value: object) -> None:
    assert json.loads(files.to_json(value)) == value
    if isinstance(value, dict):
        other = dict(reversed(list(value.items())))
        assert files.digest_of(other) == files.digest_of(value)


@given(
    rows=some.lists(
        some.lists(
            some.text(some.characters(exclude_categories=["Cs", "Cc"])), min_size=2, max_size=2
        )
    )
)
def test_tables_come_back_whatever_the_names(rows: list[list[str]]) -> None:
    import csv
    import io

    assert list(csv.reader(io.StringIO(files.to_csv(rows), newline=""))) == rows


def test_digest_of_a_file_by_two_algorithms(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    data = (tmp_path / "x").read_bytes()
    assert files.digest_of_file(tmp_path / "x", "sha256") == hashlib.sha256(data).hexdigest()
    ours = hashlib.blake2b(data, digest_size=16).hexdigest()
    assert files.digest_of_file(tmp_path / "x") == ours


@pytest.mark.parametrize("text", ["", "{", "\ufeff["])
def test_what_is_no_json_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, "utf-8")
    with pytest.raises(UserError, match="a.json: not JSON") as error:
        files.read_json(tmp_path / "a.json")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no such file"):
        files.read_json(tmp_path / "b.json")
