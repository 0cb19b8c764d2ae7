"""See whether images or weights outside of the project changed.

    python -m stages.look data/looked

DVC follows the files of the project alone. This stage runs every time and writes digests of what
lies elsewhere: the images and lists of the datasets, the weights that `params.yaml` names. Where
something changed its digest does, and the stages that use it run again. What did not change is not
read again, by its length and times of change.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .core import console, files, params, plugins, seen_files
from .core.errors import UserError
from .datasets import NotThere

app = console.app()
DATASETS, TRAIN, TEACHERS = "datasets.json", "train.json", "teachers"
GONE = "not there; what was seen last stays noted"


@app.command()
def main(out: Path, params_file: Path = params.OPTION) -> None:
    """Write digests of what the parameters name outside of the project to the folder OUT."""
    given = params.read(params_file)
    write(out / DATASETS, datasets(given, noted(out / DATASETS)))
    for name in given.kinds:
        file = out / TEACHERS / f"{name}.json"
        write(file, named_files(given.values["teachers"][name], noted(file)))
    write(out / TRAIN, named_files(given.values["train"], noted(out / TRAIN)))
    for stale in (out / TEACHERS).glob("*.json"):
        if stale.stem not in given.kinds:
            stale.unlink()


def datasets(given: params.Parameters, before: dict[str, Any]) -> dict[str, Any]:
    """What each set is made of, by its name; empty where a dataset draws its own images."""
    sets = {"training": (given.training_set, "")}
    digests: dict[tuple[str, str], list[str]] = {}
    sets |= {f"evaluation {n}": (entry.dataset, n) for n, entry in given.evaluation.items()}
    looked: dict[str, Any] = {}
    for key, (dataset, name) in sets.items():
        settings = files.digest_of([dataset, name, given.values["datasets"].get(dataset)])
        try:
            seen = watched(given, dataset, name, digests)
        except NotThere as error:  # a disk that is not mounted, a copy without its images
            if before.get(key, {}).get("settings") == settings:
                console.say(f"{error} ({GONE})")
                looked[key] = before[key]
            continue
        except UserError as error:  # prepare runs, and says so
            seen = [str(error)]
        if seen:
            looked[key] = {"settings": settings, "files": seen}
    return looked


def watched(
    given: params.Parameters, dataset: str, name: str, known: dict[tuple[str, str], list[str]]
) -> list[str]:
    """A digest for each folder of files that a set is made of. Raises UserError."""
    module = plugins.load(f"{params.PACKAGE}.datasets", dataset)
    if not hasattr(module, "watched"):
        return []
    key = (dataset, "" if hasattr(module, "training") else name)  # one of training has one root
    if key not in known:
        known[key] = [
            seen_files.digest_of_all(root, paths, f"{dataset}: reading what is new in {root}")
            for root, paths in module.watched(given.dataset(dataset), name)
        ]
    return known[key]


def named_files(settings: Any, before: dict[str, Any]) -> dict[str, Any]:
    """The digest of each file or folder that `settings` names, by its key."""
    looked: dict[str, Any] = {}
    for key, text in _texts(settings if isinstance(settings, dict) else {}):
        path = Path(text).expanduser()
        place = files.digest_of(text)
        if path.is_file():
            names = [path.name]
            digest = seen_files.digest_of_all(path.parent, names, f"reading {path}")
        elif path.is_dir():
            names = sorted(f.relative_to(path).as_posix() for f in path.rglob("*") if f.is_file())
            digest = seen_files.digest_of_all(path, names, f"reading {path}")
        elif before.get(key, {}).get("place") == place:
            console.say(f"{path}: {GONE}")
            digest = before[key]["digest"]
        else:
            continue
        looked[key] = {"place": place, "digest": digest}
    return looked


def noted(file: Path) -> dict[str, Any]:
    """What the file holds of an earlier look; {} where there was none."""
    try:
        values = files.read_json(file)
    except UserError:
        return {}
    return values if isinstance(values, dict) else {}


def write(file: Path, values: dict[str, Any]) -> None:
    """Write what was seen, where it differs: a file that DVC links to its cache stays that link."""
    if not file.is_file() or noted(file) != values:
        files.write_text(file, files.to_json(values))


def _texts(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, text) of settings that may name a file: texts with a separator or a suffix."""
    for key, value in settings.items():
        for number, text in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(text, str) and (os.sep in text or "." in text or os.path.exists(text)):
                yield (f"{key} {number}" if isinstance(value, list) else key), text


if __name__ == "__main__":
    console.main(app)
