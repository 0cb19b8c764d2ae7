"""Serve an index on this machine: a page to drop an image on, and an API. No torch is needed.

    whiten-mtd serve my-index
    curl -F file=@query.jpg 'http://127.0.0.1:8000/search?top=5'

The server switches to a new generation of the index while it runs, unless that one is damaged.
Uploads are limited in bytes, pixels and time. There is no login: keep it on 127.0.0.1, or behind a
proxy that has one; name the proxy's address by --allow-host.
"""

import errno
from pathlib import Path

import typer

from ...core import console, runtime
from ...core.errors import UserError
from . import front, http_server, sockets
from .live_index import Limits, Service

app = console.app()
NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)  # EINVAL: a link without zone


@app.command()
def main(
    index: Path,
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(8000, min=0, max=65535, help="Port; 0: any free one."),
    allow_host: list[str] = typer.Option(
        [], metavar="NAME", help="Also answer to this name, as a proxy hands it on; repeatable."
    ),
    model: Path = typer.Option(None, help="An exported student, if the index contains none."),
    max_bytes: int = typer.Option(20_000_000, min=1, help="Largest upload, bytes."),
    max_pixels: int = typer.Option(50_000_000, min=1, help="Largest image, pixels."),
    timeout: float = typer.Option(10.0, min=0.1, help="Seconds a client may take to send."),
) -> None:
    """Serve INDEX until interrupted."""
    runtime.share_memory()
    names = [front.name_of(name) for name in allow_host]
    # An error here, if the index cannot be read.
    service = Service(index, model, Limits(max_bytes, max_pixels, timeout))
    try:
        with sockets.listen(host, port) as bound:
            at = sockets.authority(bound)
            console.say(f"{index}: {len(service.now.index)} images at http://{at}")
            http_server.run(service, bound, front.Hosts(host, bound.getsockname()[0], names))
    except OSError as error:
        number = error.errno or 0
        if number < 0 or number in NOT_OURS:  # negative: the name was not found
            raise UserError(f"--host {host}: not an address of this machine") from None
        where = f"--host {host} --port {port}"
        raise UserError(f"{where}: {error.strerror or error}; give another --port") from None


if __name__ == "__main__":
    console.main(app)
