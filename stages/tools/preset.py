"""Write params.yaml from a ready set of parameters.

whiten-mtd preset demo
"""

from importlib import resources
from pathlib import Path

import typer

from ..core import console, store
from ..core.errors import UserError
from ..core.plugins import nearest

app = console.app()


@app.command()
def main(
    name: str,
    out: Path = typer.Option(Path("params.yaml"), help="Where to write."),
    force: bool = typer.Option(False, "--force", help="Replace a file that differs."),
) -> None:
    """Write the preset NAME as params.yaml."""
    folder = resources.files(f"{__package__.rsplit('.', 1)[0]}.presets")
    known = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))
    if name not in known:
        raise UserError(f"no preset {name!r}{nearest(name, known)}: choose from {', '.join(known)}")
    text = (folder / f"{name}.yaml").read_text("utf-8")
    if out.exists() and out.read_text("utf-8") != text and not force:
        raise UserError(f"{out}: exists and differs; keep a copy and add --force to replace it")
    store.write_text(out, text)
    console.say(f"{out}: preset {name}")


if __name__ == "__main__":
    console.main(app)
