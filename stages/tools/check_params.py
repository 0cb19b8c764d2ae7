"""The whole of params.yaml, every section, teacher and dataset checked by its own class."""

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module

from ..core.errors import UserError
from ..core.params import Parameters, Section

Finding = tuple[bool | None, str]  # (good, bad or only to know; what)
STAGES = ("prepare", "extract", "whiten", "fuse", "train", "describe", "evaluate")
HOME = {**{stage: stage for stage in STAGES}, "compare": "tools.report.compare"}


def forms(given: Parameters) -> Iterator[Finding]:
    """Every section and entry of a file of parameters by its own class; no data is looked at."""
    package = __package__.rsplit(".", 1)[0]
    checks: dict[str, Callable[[], Section]] = {}
    for section, module in HOME.items():
        form = import_module(f"{package}.{module}").Params
        checks[section] = partial(given.section, section, form)
    checks |= {f"teachers.{name}": partial(given.teacher, name) for name in given.kinds}
    checks |= {f"datasets.{n}": partial(given.dataset, n) for n in given.values["datasets"]}
    for name, typed in checks.items():
        try:
            typed()
            if "." not in name:
                yield True, given.place(name)
        except UserError as error:
            yield from ((False, line) for line in error.lines)
