"""Write params.yaml from a ready set of parameters.

    whiten-mtd preset demo

A preset is a whole file of parameters, or names another one (`of`) and what differs (`set`).
"""

import re
from importlib import resources
from pathlib import Path
from typing import Any

import typer
from ruamel.yaml import YAML

from ...core import console, files
from ...core.errors import UserError
from ...core.plugins import nearest

app = console.app()
FOLDER = resources.files(f"{__package__.rsplit('.', 2)[0]}.presets")


@app.command()
def main(
    name: str,
    out: Path = typer.Option(Path("params.yaml"), help="Where to write."),
    force: bool = typer.Option(False, "--force", help="Replace a file that differs."),
) -> None:
    """Write the preset NAME as params.yaml."""
    known = names()
    if name not in known:
        raise UserError(f"no preset {name!r}{nearest(name, known)}: choose from {', '.join(known)}")
    written = text(name)
    if out.exists() and out.read_text("utf-8") != written and not force:
        raise UserError(f"{out}: exists and differs; keep a copy and add --force to replace it")
    files.write_text(out, written)
    console.say(f"{out}: preset {name}")


def names() -> list[str]:
    """The presets there are."""
    return sorted(f.name[:-5] for f in FOLDER.iterdir() if f.name.endswith(".yaml"))


def text(name: str) -> str:
    """The whole file of parameters that the preset `name` stands for, comments included."""
    own = (FOLDER / f"{name}.yaml").read_text("utf-8")
    values = YAML(typ="safe").load(own)
    if "of" not in values:
        return own
    heading = re.match(r"(#.*\n)*", own)
    assert heading is not None
    whole = re.sub(r"\A(#.*\n)*", lambda _: heading[0], text(values["of"]))
    for knob, value in values["set"].items():
        whole = replaced(whole, knob, value)
    return whole


def replaced(whole: str, knob: str, value: Any) -> str:
    """`whole` with the line of `section.knob` saying `value`; everything else as it is."""
    section, key = knob.split(".")
    line = re.compile(rf"(^{section}:\n(?:(?: .*)?\n)*?  {key}: ).*", re.M)
    found, count = line.subn(lambda m: f"{m[1]}{value}", whole, count=1)
    if not count:
        raise KeyError(knob)
    return found


if __name__ == "__main__":
    console.main(app)
