"""Serve an index on this machine: a page to drop an image on, and an API. No torch is needed.

    whiten-mtd serve my-index
    curl -F file=@query.jpg 'http://127.0.0.1:8000/search?top=5'

A new generation of the index is taken over while the server runs; a damaged one is not. Uploads are
bounded in bytes, pixels and time. There is no login: keep it on 127.0.0.1.
"""

import errno
from pathlib import Path

import typer

from ...core import console
from ...core.errors import UserError
from . import http_server

app = console.app()


@app.command()
def main(
    index: Path,
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(8000, min=0, max=65535, help="Port; 0: any free one."),
    model: Path = typer.Option(None, help="An exported student, where the index has none in it."),
    max_bytes: int = typer.Option(20_000_000, min=1, help="Largest upload, bytes."),
    max_pixels: int = typer.Option(50_000_000, min=1, help="Largest image, pixels."),
    timeout: float = typer.Option(10.0, min=0.1, help="Seconds a client may take to send."),
) -> None:
    """Serve INDEX until interrupted."""
    limits = http_server.Limits(max_bytes, max_pixels, timeout)
    service = http_server.Service(index, model, limits)  # an index that cannot be read stops here
    try:
        with http_server.listen(host, port) as bound:
            name, number = bound.getsockname()[:2]
            console.say(f"{index}: {len(service.now.index)} images at http://{name}:{number}")
            http_server.run(service, bound, host)
    except OSError as error:
        number = error.errno or 0
        if number < 0 or number == errno.EADDRNOTAVAIL:  # those of a name's look-up are negative
            raise UserError(f"--host {host}: no address of this machine; give another") from None
        raise UserError(f"{host}:{port}: {error.strerror or error}; give another --port") from None


if __name__ == "__main__":
    console.main(app)
