"""The files of a finished run: the one in this folder, or a DVC experiment by its name."""

import csv
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ...core import committed, files, params
from ...core.errors import UserError
from ...core.plugins import nearest
from ...retrieval import metrics, protocols, score_table, scoring_rules
from ...retrieval.score_table import OLD_ROWS, renamed
from ...retrieval.scoring_rules import UNKNOWN
from . import latency

T = TypeVar("T")
Read = Callable[[str], bytes]  # a file of the run by its path; FileNotFoundError
HERE = "this run"


@dataclass(frozen=True)
class Run:
    """`metrics`, `models` as evaluate wrote them; `queries` (set, model, difficulty) -> query ->
    AP in percent; `history` one map a step; `config` of the student; `params` all of them."""

    name: str
    metrics: dict[str, Any]
    models: dict[str, Any]
    queries: dict[tuple[str, str, str], dict[str, float]]
    history: list[dict[str, float]]
    config: dict[str, Any]
    params: dict[str, Any]
    rules: dict[str, dict[str, scoring_rules.ScoringRules]]  # set -> model -> its scoring rules

    @classmethod
    def read(cls, name: str, read: Read, values: dict[str, Any] | None = None) -> "Run":
        """All of it through `read`, its parameters too where they are not known yet (`values`).

        Raises UserError naming the file that is missing.
        """

        def parsed(path: str, old: str = "") -> Any:
            return files.parse_json(_file(read, path, name, old), f"{name}: {path}")

        scores = parsed("data/results/metrics.json")
        if not isinstance(scores, dict) or not scores:
            raise UserError(f"{name}: data/results/metrics.json: no scores, no set was evaluated")
        today = renamed(scores, name)
        rows = OLD_ROWS if today is not scores else {}  # of an old run, also in its other files
        rules = parsed(*(f"data/results/{f}" for f in (scoring_rules.FILE, scoring_rules.OLD_FILE)))
        models = parsed("data/results/models.json")
        score_table.checked(today, f"{name}: data/results/metrics.json")
        score_table.checked_models(models, today, f"{name}: data/results/models.json")
        queries = _table(read, "data/results/queries.csv", name, _of_queries)
        history = _table(read, "models/student/history.csv", name, _of_steps)
        if values is None:  # of another commit, perhaps with other keys: compared, never typed
            values = params.parse(_file(read, "params.yaml", name).encode(), f"{name}: params.yaml")
        of_sets = scoring_rules.parse(rules, name)
        _check_rules(of_sets, today, name)
        config = parsed("models/student/config.json")
        if not isinstance(config, dict):
            raise UserError(f"{name}: models/student/config.json: not a map; train again")
        return cls(
            name, today,
            {s: {rows.get(m, m): about for m, about in of.items()} for s, of in models.items()},
            {(s, rows.get(m, m), d): aps for (s, m, d), aps in queries.items()}, history,
            config, values, of_sets,
        )  # fmt: skip

    def main_difficulty(self, data: str) -> str:
        """The difficulty that headlines use, as the protocol says."""
        scored = self.difficulties(data)
        if not scored:
            raise UserError(f"{self.name}: {data}: no query has a positive; nothing to report")
        return protocols.load(self.rules[data]["student"].protocol).headline(scored)

    def difficulties(self, data: str) -> list[str]:
        """Those that were scored, easiest first."""
        return protocols.in_order(self.metrics[data]["student"])

    @property
    def no_steps(self) -> str:
        """That training ran no step, where it ran none; empty else."""
        return no_steps(self.config)

    def fingerprint(self, data: str) -> str:
        """Digest of the student's scoring rules: scores with the same digest can be compared."""
        return self.rules[data]["student"].digest

    def spec(self, data: str, model: str) -> latency.Spec | None:
        """How `model` describes an image of `data`; None where it is not one network."""
        about = self.models[data].get(model, {})
        px, scales = str(about.get("image_px")), str(about.get("scales", UNKNOWN))
        own = ("student", "untrained", *self.params["teachers"])
        if not px.isdecimal() or scales == UNKNOWN or model not in own:
            return None  # descriptors from elsewhere, images of any size, an old model
        return self._spec(model, int(px), scales, int(about["dim"]))

    def _spec(self, model: str, px: int, scales: str, dim: int) -> latency.Spec:
        if model == "student":
            return latency.of_student(self.config, px, scales)
        if model == "untrained":
            config = {**self.config, "head": False, "dim": dim}
            return latency.of_student(config, px, scales)
        return latency.of_teacher(self.params["teachers"][model], px, scales)


def _check_rules(
    rules: dict[str, dict[str, scoring_rules.ScoringRules]], scores: dict[str, Any], name: str
) -> None:
    """Raise UserError where a set has no rules of its student, or not those of its scores."""
    for data, models in scores.items():
        own = rules.get(data, {}).get("student")
        if own is None or own.protocol not in protocols.names():
            raise UserError(f"{name}: {data}: no scoring rules of the student; evaluate again")
        known = protocols.load(own.protocol).difficulties
        if odd := [d for d in models["student"] if d not in known]:
            raise UserError(
                f"{name}: {data}: scored at {odd[0]!r}, which protocol {own.protocol} has not; "
                "evaluate again"
            )


def no_steps(config: Any) -> str:
    """That the training of a student, by its config.json, ran no step; empty where it ran some."""
    if not isinstance(config, dict) or config.get("steps") != 0:
        return ""
    return "0 steps ran: nothing was trained (train.epochs), the student is its start"


def workspace(params_file: Path) -> Run:
    """The run in this folder; its parameters checked as far as every command checks them."""
    given = params.read(params_file)
    return Run.read(HERE, lambda path: Path(path).read_bytes(), given.values)


def experiment(name: str) -> Run:
    """A DVC experiment (or any git revision) by name. Raises UserError where there is none."""
    try:
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
        from dvc.scm import NoSCM, SCMError, resolve_rev
    except ModuleNotFoundError:
        raise UserError("experiments are read by dvc: pip install 'whiten-mtd[train]'") from None
    try:
        repo = Repo()
        if isinstance(repo.scm, NoSCM):
            raise UserError("experiments live in a git repository, and this folder is in none")
        resolve_rev(repo.scm, name)
        files = DVCFileSystem(rev=name)
    except SCMError:
        known = names()
        choices = f": choose from {', '.join(known)}" if known else ": there are none yet"
        raise UserError(f"no experiment {name!r}{nearest(name, known)}{choices}") from None
    except DvcException as error:
        raise UserError(f"{name}: {' '.join(str(error).split())}") from None

    def read(path: str) -> bytes:
        try:
            with files.open(path, "rb") as f:
                return f.read()
        except (OSError, DvcException):
            raise FileNotFoundError(path) from None

    return Run.read(name, read)


def names() -> list[str]:
    """The experiments of this commit."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        listed = Repo().experiments.ls(all_commits=True)
    except DvcException:
        return []
    return sorted({name for own in listed.values() for name, *_ in own if name})


def differences(run: Run, base: Run) -> list[tuple[str, Any, Any]]:
    """(dotted key, value in `base`, value in `run`) of every parameter that differs."""
    a, b = committed.flat(base.params), committed.flat(run.params)
    return [(k, a.get(k), b.get(k)) for k in dict.fromkeys((*a, *b)) if a.get(k) != b.get(k)]


def gain(run: Run, base: Run, data: str, difficulty: str) -> tuple[float, float, float] | None:
    """(mean difference of the student's AP, its 95 % interval) over the queries of both."""
    key = (data, "student", difficulty)
    aps, base_aps = run.queries.get(key, {}), base.queries.get(key, {})
    shared = [q for q in aps if q in base_aps]
    if not shared or run.fingerprint(data) != base.fingerprint(data):
        return None
    change = np.array([aps[q] - base_aps[q] for q in shared])
    return (float(change.mean()), *metrics.bootstrap(change))


def _file(read: Read, path: str, name: str, old: str = "") -> str:
    """The text of `path`; where it is missing, of `old`, its name in old runs."""
    try:
        return read(path).decode("utf-8")
    except FileNotFoundError:
        if old:
            return _file(read, old, name)
        how = "run `dvc repro` first" if name == HERE else "run that experiment again"
        raise UserError(f"{name}: {path} is missing; {how}") from None
    except UnicodeDecodeError:
        raise UserError(f"{name}: {path} is not UTF-8; run the stage that wrote it again") from None


def _table(read: Read, path: str, name: str, parse: Callable[[Any], T]) -> T:
    """A CSV table through `parse`. Raises UserError where it is damaged."""
    try:
        return parse(csv.DictReader(io.StringIO(_file(read, path, name)), strict=True))
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{name}: {path}: not a table that its stage wrote ({error}); run that stage again"
        ) from None


def _of_queries(rows: Iterable[dict[str, str]]) -> dict[tuple[str, str, str], dict[str, float]]:
    out: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        key = (row["set"], row["model"], row["difficulty"])
        ap = float(row["ap"])
        if not 0 <= ap <= 100:
            raise ValueError(f"an AP of {row['ap']}")
        out.setdefault(key, {})[row["query"]] = ap
    return out


def _of_steps(rows: Iterable[dict[str, str]]) -> list[dict[str, float]]:
    out = [{k: float(v) for k, v in row.items() if v} for row in rows]
    if odd := [v for row in out for v in row.values() if not math.isfinite(v)]:
        raise ValueError(f"{odd[0]} is no number")
    return out
