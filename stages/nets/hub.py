"""timm's published weights: from the hub's local cache, else from the hub by its own client.

The client (huggingface_hub) decides about the network: HF_HUB_OFFLINE, HF_ENDPOINT, HF_HOME,
HF_TOKEN and proxies are its own. Here only the order is set, the cache before the network, and a
time-out, since the client tries for minutes where nothing answers.
"""

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ..core import console
from ..core.errors import UserError
from .checkpoints import State, from_file

SECONDS = 5.0  # until the hub must have answered, where HF_HUB_ETAG_TIMEOUT says nothing else


class Missing(UserError):
    """Weights that are neither in the cache nor to be had; says why."""


def state_of(name: str) -> State:
    """Published weights of timm model `name`, under timm's names. Raises Missing, or UserError."""
    import timm

    file = cached(name) or _download(name)
    cfg = _config(name)
    try:
        if cfg.custom_load == "hf" or file.suffix == ".npz":  # of another program: timm reads it
            overlay: dict[str, Any] = {"file": str(file), "custom_load": True}
        else:
            overlay = {"state_dict": from_file(file), "custom_load": False}
        made = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except UserError:
        raise
    except Exception as error:  # timm's readers raise many kinds; all mean "not these weights"
        raise UserError(
            f"{file}: not the published weights of {name} ({_line(error)}); remove it from the "
            "cache to have it fetched again"
        ) from None
    return made.state_dict()


def cached(name: str) -> Path | None:
    """The file of timm model `name` in the local cache, None where it is not there."""
    import torch
    from huggingface_hub import try_to_load_from_cache

    cfg = _config(name)
    if cfg is None:
        return None
    if cfg.hf_hub_id:
        repo, revision = _repository(cfg)
        for file in _names(cfg):
            path_in_cache = try_to_load_from_cache(repo, file, revision=revision)
            if isinstance(path_in_cache, str):
                return Path(path_in_cache)
    if cfg.url:
        path = Path(torch.hub.get_dir(), "checkpoints", _name_in(cfg.url))
        return path if path.is_file() else None
    return None


def unreachable(name: str) -> str | None:
    """Why the weights of timm model `name` cannot be downloaded now; None where they can."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    cfg = _config(name)
    if cfg is None or not (cfg.hf_hub_id or cfg.url):
        return "timm has no published weights of that name"
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if not cfg.hf_hub_id:
        return None
    repo, revision = _repository(cfg)
    reason = ""
    for file in _names(cfg):
        try:
            get_hf_file_metadata(hf_hub_url(repo, file, revision=revision), timeout=_seconds())
            return None
        except EntryNotFoundError as error:
            reason = _line(error)
        except Exception as error:  # the client's and its transport's many kinds
            return f"{constants.ENDPOINT} does not give them: {_line(error)}"
    return reason


def _download(name: str) -> Path:
    import torch
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if (reason := unreachable(name)) is not None:
        raise Missing(f"they are not in the hub's cache and cannot be downloaded ({reason})")
    cfg = _config(name)
    console.say(f"{name}: downloading its weights")
    error: Exception | None = None
    try:
        if not cfg.hf_hub_id:
            return _from_url(cfg.url, Path(torch.hub.get_dir(), "checkpoints"))
        repo, revision = _repository(cfg)
        for file in _names(cfg):
            try:
                return Path(hf_hub_download(repo, file, revision=revision, etag_timeout=_seconds()))
            except LocalEntryNotFoundError:  # no connection, which is also an EntryNotFoundError
                raise
            except EntryNotFoundError as other:
                error = other
    except Exception as other:  # the client's and its transport's many kinds
        error = other
    raise Missing(f"they are not in the hub's cache, and the download failed ({_line(error)})")


def _from_url(url: str, folder: Path) -> Path:
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_seconds())  # torch's download has none of its own
    try:
        torch.hub.download_url_to_file(url, str(folder / _name_in(url)), progress=False)
    finally:
        socket.setdefaulttimeout(before)
    return folder / _name_in(url)


def _config(name: str) -> Any:
    """timm's entry of the published weights; None where it has none of that name."""
    import timm

    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:  # a tag that timm does not know
        return None


def _repository(cfg: Any) -> tuple[str, str | None]:
    repo, _, revision = cfg.hf_hub_id.partition("@")
    return repo, revision or None


def _names(cfg: Any) -> list[str]:
    """Names that the file has on the hub, the one without pickles first, as timm prefers it."""
    name = cfg.hf_hub_filename or "pytorch_model.bin"
    if not name.endswith(".bin"):
        return [name]
    safe = name.replace("pytorch_model", "model").removesuffix(".bin")
    return [f"{safe}.safetensors", name]


def _name_in(url: str) -> str:
    return Path(urlparse(url).path).name


def _seconds() -> float:
    from huggingface_hub import constants

    given = float(constants.HF_HUB_ETAG_TIMEOUT)
    return SECONDS if given == constants.DEFAULT_ETAG_TIMEOUT else given


def _line(error: BaseException | None) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())[:150]
