"""An index that is changed while its server answers: every answer is of one whole generation."""

import threading
from pathlib import Path

import httpx
import served
import tiny_onnx

from stages.core import console
from stages.tools.search import generations as indexes
from stages.tools.search import index

CLIENTS = 4


def change(*arguments: str) -> None:
    assert console.run(index.app, list(arguments)) == 0


def test_every_answer_is_of_one_generation(tmp_path: Path) -> None:
    mine = served.make(tmp_path)
    more = tiny_onnx.images(tmp_path / "more", groups=2, seed=1)
    query = (tmp_path / "images/größe 2/bild 1.png").read_bytes()
    answers: list[httpx.Response] = []
    done = threading.Event()
    paths = {1: set(indexes.read(mine).path.tolist())}

    with served.running(mine) as at:

        def ask() -> None:
            with httpx.Client() as client:
                while not done.is_set():
                    answers.append(client.post(f"http://{at}/search?top=50", content=query))

        clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            for turn in ("--add", "--remove", "--rollback") * 3:
                what = {
                    "--add": [str(more), str(mine), "--add"],
                    "--remove": [str(mine), "--remove", "größe 0/*"],
                    "--rollback": [str(mine), "--rollback"],
                }[turn]
                change(*what)
                opened = indexes.read(mine)
                paths[opened.generation] = set(opened.path.tolist())
                before = len(answers)
                while len(answers) < before + 2 * CLIENTS:
                    done.wait(0.01)
                    assert all(client.is_alive() for client in clients)
        finally:
            done.set()
            for client in clients:
                client.join(20)
    assert {a.status_code for a in answers} == {200}
    seen = [a.json() for a in answers]
    assert len({a["generation"] for a in seen}) > 3
    for answer in seen:
        found = [r["path"] for r in answer["results"]]
        assert set(found) == paths[answer["generation"]] and answer["images"] == len(found)
        assert answer["results"][0]["score"] == max(r["score"] for r in answer["results"])
