"""The whole of params.yaml, every section, teacher and dataset checked by its own form."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from ..core import params, plugins
from ..core.errors import UserError

Finding = tuple[bool | None, str]  # (good, bad or only to know; what)
STAGES = ("prepare", "extract", "whiten", "fuse", "train", "describe", "evaluate")


def forms(path: Path) -> Iterator[Finding]:
    """Every section and entry of a file of parameters by its own class; no data is looked at."""
    try:
        values = params.read(path)
        table = params.teachers(values, path)
    except UserError as error:
        yield from ((False, line) for line in str(error).splitlines())
        return
    for name in ("evaluation", "datasets"):
        if not isinstance(values[name], dict):
            yield False, f"{path}: {name}: expected a map, found {values[name]!r}; {{}} is none"
            return
    package = __package__.rsplit(".", 1)[0]
    stages = [import_module(f"{package}.{stage}") for stage in STAGES]
    checks = [(n, values[n], m.Params) for n, m in zip(STAGES, stages, strict=True)]
    checks.append(
        ("compare", values["compare"], import_module(f"{package}.tools.report.compare").Params)
    )
    entry = stages[0].EvaluationEntry
    checks += [(f"evaluation.{n}", e, entry) for n, e in values["evaluation"].items()]
    for kind, folder, of in (
        ("teachers", "teachers", {n: s["kind"] for n, s in table.items()}),
        ("datasets", "datasets", {n: n for n in values["datasets"]}),
    ):
        for name, plugin in of.items():
            try:
                module = plugins.load(f"{package}.{folder}", plugin)
                checks.append((f"{kind}.{name}", values[kind][name], module.Settings))
            except UserError as error:
                yield False, f"{path}: {kind}.{name}: {error}"
    for name, section, into in checks:
        try:
            params.check(section, into, f"{path}: {name}")
            if "." not in name:
                yield True, f"{path}: {name}"
        except UserError as error:
            yield from ((False, line) for line in str(error).splitlines())
