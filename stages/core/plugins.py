"""A folder is a registry: the file name is the name; a leading underscore means shared."""

import difflib
from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from .errors import UserError


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` where one of `known` is close to `name`, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def names(package: str) -> list[str]:
    """Plug-ins of `package`: its modules whose name has no leading underscore, sorted."""
    modules = iter_modules(import_module(package).__path__)
    return sorted(m.name for m in modules if not m.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import one plug-in of `package`, and only that one. An unknown name lists the choices."""
    known = names(package)
    if name not in known:
        what = package.rsplit(".", 1)[-1]
        raise UserError(
            f"no {name!r} in {what}{nearest(name, known)}: choose from {', '.join(known)}"
        )
    return import_module(f"{package}.{name}")
