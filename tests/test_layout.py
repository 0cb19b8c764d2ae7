"""The house keeps its shape: arrows, names in four places, dependencies as loaded, no traps."""

import ast
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from project import ROOT, run
from ruamel.yaml import YAML

STAGES = ("look", "prepare", "extract", "whiten", "fuse", "train", "describe", "evaluate")
BLOCKS = ("datasets", "teachers", "distill", "retrieval")
# Arrows run from later to earlier, or stay within a room of one name.
ORDER: tuple[tuple[str, ...], ...] = (
    ("core",), ("images",), ("nets",), BLOCKS, STAGES, ("tools",),
    ("__main__", "_interface"),
)  # fmt: skip
# Of the tools only `bench`, which times the stages' own code, and `plan`, which counts by it.
SEES_STAGES = re.compile(r"tools/cost/(bench\w*|plan)")
# Loaded by every command and not part of any result.
EXEMPT = {
    "stages/__init__.py", "stages/core/committed.py", "stages/core/console.py",
    "stages/core/machine.py", "stages/core/stage_code.py",
}  # fmt: skip
FILES = sorted((ROOT / "stages").rglob("*.py"))


def yaml(name: str) -> Any:
    return YAML(typ="safe").load((ROOT / name).read_text("utf-8"))


def imports(path: Path, types: bool = True) -> set[str]:
    """Modules of ours that a file imports anywhere, as `a.b` under stages.

    `types`: also those that only a type checker imports.
    """
    here = path.relative_to(ROOT / "stages").with_suffix("").parts
    tree = ast.parse(path.read_text("utf-8"))
    unloaded = set() if types else {n for block in type_checking(tree) for n in ast.walk(block)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node not in unloaded:
            base = list(here[: len(here) - node.level])
            module = base + (node.module.split(".") if node.module else [])
            for alias in node.names:
                full = ROOT / "stages" / "/".join([*module, alias.name])
                is_module = full.with_suffix(".py").is_file() or (full / "__init__.py").is_file()
                found.add(".".join([*module, alias.name] if is_module else module))
    return found - {""}


def type_checking(tree: ast.Module) -> list[ast.If]:
    """The blocks `if TYPE_CHECKING:` of a file."""
    blocks = [n for n in tree.body if isinstance(n, ast.If)]
    return [b for b in blocks if isinstance(b.test, ast.Name) and b.test.id == "TYPE_CHECKING"]


def loaded_by(files: Iterable[Path]) -> set[str]:
    """Files of ours that `files` may load, with themselves: what they import at the top or within
    a function, and so on, and the packages that these lie in; as `stages/a/b.py`."""
    reached: set[Path] = set()
    todo = [*files]
    while todo:
        path = todo.pop()
        if path in reached:
            continue
        reached.add(path)
        for module in imports(path, types=False):
            file = (ROOT / "stages").joinpath(*module.split("."))
            todo.append(file / "__init__.py" if file.is_dir() else file.with_suffix(".py"))
        todo += [p / "__init__.py" for p in path.parents if ROOT / "stages" in p.parents]
    return {p.relative_to(ROOT).as_posix() for p in reached if not empty_package(p)} - EXEMPT


def rank_of(room: str) -> int:
    """Place of a top-level file or folder of stages in ORDER."""
    return next(i for i, rooms in enumerate(ORDER) if room in rooms)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_run_one_way(path: Path) -> None:
    here = path.relative_to(ROOT / "stages").with_suffix("")
    home = here.parts[0]
    if home == "__init__" or home == "presets":
        return
    for module in imports(path):
        target = module.split(".")[0]
        assert rank_of(target) <= rank_of(home), f"{here} imports {module}, which lies above it"
        if rank_of(target) == rank_of(home):
            assert target == home, f"{here} imports {module}: a neighbour, not its own room"
        if home == "tools" and target in STAGES:
            assert SEES_STAGES.fullmatch(here.as_posix()), f"{here} imports stage {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_slice_of_tools_imports_no_other(path: Path) -> None:
    here = path.relative_to(ROOT / "stages").with_suffix("").parts
    if here[0] != "tools":
        return
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "tools" and len(parts) > 2:  # a file of a slice; tools/x.py is for all
            assert len(here) > 2 and parts[1] == here[1], f"{'/'.join(here)} imports {module}"


def test_no_import_cycles() -> None:
    graph = {
        ".".join(p.relative_to(ROOT / "stages").with_suffix("").parts).removesuffix(".__init__"):
        imports(p)
        for p in FILES
    }  # fmt: skip

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"cycle: {' -> '.join((*path, module))}"
        for other in graph.get(module, ()):
            # A package's own __init__ is loaded before its files and may name them lazily.
            if other != module and not module.startswith(f"{other}."):
                visit(other, (*path, module))

    for module in graph:
        visit(module, ())


def test_one_name_in_four_places() -> None:
    verbs = {p.stem for p in (ROOT / "stages").glob("*.py") if not p.stem.startswith("_")}
    assert verbs == set(STAGES)
    assert {s.removesuffix("_student") for s in yaml("dvc.yaml")["stages"]} == set(STAGES)
    assert set(STAGES) - {"look"} <= set(yaml("params.yaml"))  # it has nothing to set
    usage = run(sys.executable, "-m", "stages", "--help", cwd=ROOT).stdout
    assert re.findall(rf"^  ({'|'.join(STAGES)}) ", usage, re.M) == list(STAGES)


def test_params_have_no_key_that_dvc_forgets() -> None:
    def keys(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [*map(str, value), *(k for v in value.values() for k in keys(v))]
        return []

    values = yaml("params.yaml")
    del values["compare"]["recipes"]  # never interpolated, names are for people
    assert not {"size", "nfiles"} & set(keys(values))
    assert not [k for k in keys(values) if "." in k]


def test_every_knob_has_a_comment() -> None:
    lines = (ROOT / "params.yaml").read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[a-z_]+:", line) and line.split(":")[0] in STAGES:
            assert lines[number + 1].strip().startswith("#"), line


def test_every_out_is_ignored_by_git_and_cached_by_dvc() -> None:
    for name, entry in yaml("dvc.yaml")["stages"].items():
        entry = entry.get("do", entry)
        for out in [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]:
            if name == "look":  # runs every time, and goes by what it saw last
                assert entry["always_changed"] and out == {"data/looked": {"persist": True}}
                out = "data/looked"
            assert isinstance(out, str), f"{name}: {out} has flags"
            assert out.startswith(("data/", "models/"))
            run("git", "check-ignore", "-q", re.sub(r"\$\{.*?\}", "x", out), cwd=ROOT)


RECORD = """
import json, runpy, sys, pathlib
root = pathlib.Path.cwd()
sys.argv = sys.argv[1:]
try:
    runpy.run_module(f"stages.{sys.argv[0]}", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
files = {getattr(m, "__file__", None) for m in list(sys.modules.values())}
loaded = {str(pathlib.Path(f).relative_to(root)) for f in files if f and f.startswith(str(root))}
print("LOADED", json.dumps(sorted(loaded | {f"stages/{sys.argv[0]}.py"})))
"""


def resolved_stages(project: Path) -> dict[str, dict[str, Any]]:
    """Every stage as DVC resolved it: cmd and deps."""
    lock = YAML(typ="safe").load((project / "dvc.lock").read_text())
    return lock["stages"]


@pytest.mark.long
def test_deps_are_what_each_stage_loads(project: Path, world: Path) -> None:
    for name, entry in resolved_stages(project).items():
        if name == "look":  # runs every time
            continue
        arguments = entry["cmd"].split()[2:]
        arguments[0] = arguments[0].removeprefix("stages.")
        done = run(sys.executable, "-c", RECORD, *arguments, cwd=world)
        line = next(x for x in done.stdout.splitlines() if x.startswith("LOADED"))
        loaded = set(json.loads(line.removeprefix("LOADED"))) - EXEMPT
        loaded = {f for f in loaded if f.startswith("stages/") and not empty_package(world / f)}
        deps = {d["path"] for d in entry["deps"] if d["path"].startswith("stages/")}
        folders = {d for d in deps if (world / d).is_dir()}
        inside = {f for f in loaded if any(f.startswith(f"{d}/") for d in folders)}
        # A folder of plug-ins needs what any of them imports, loaded this time or not.
        others = loaded_by(p for f in folders for p in (ROOT / f).glob("*.py"))
        assert loaded - inside <= deps, f"{name}: loads what dvc.yaml does not name"
        if "stages/teachers/__init__.py" in deps:  # of any kind; some load this and others that
            others |= shared_by_teachers()
        assert deps - folders - loaded <= others, f"{name}: dvc.yaml names what it does not load"


OF_A_KIND = ("nets.onnx_file",)  # below the teachers, but loaded for one kind alone


def shared_by_teachers() -> set[str]:
    """What teachers load that is neither a kind nor elsewhere."""
    kinds = [p for p in (ROOT / "stages/teachers").glob("*.py") if not p.stem.startswith("_")]
    loaded = {m for p in kinds for m in imports(p) if m.startswith("teachers.") or m in OF_A_KIND}
    return {f"stages/{m.replace('.', '/')}.py" for m in loaded}


def test_deps_name_what_teachers_share() -> None:
    shared = {"stages/teachers/_resnet.py", "stages/nets/onnx_file.py"}
    assert shared_by_teachers() == shared
    for stage in ("extract", "describe"):
        assert shared_by_teachers() <= set(yaml("dvc.yaml")["stages"][stage]["do"]["deps"]), stage


# Files that a stage's program may import, but never does in this pipeline; DVC need not name them.
FUSED = {
    "distill/frames.py",
    "distill/prototypes.py",
    "distill/whitening.py",
    "retrieval/lazy_rows.py",
}  # MODEL `fused`
VIDEOS = {"core/parallel.py", "images/video_frames.py"}  # of one's own: prepare makes frames
# Only what prints a table of scores knows the protocols.
TABLES = {"retrieval/metrics.py", "retrieval/protocols/__init__.py"}
NEVER_LOADED = {
    "describe": {*FUSED, *VIDEOS, *TABLES, "distill/student.py"},
    "describe_student": {*FUSED, *VIDEOS, *TABLES, "teachers/__init__.py"},
}


def test_deps_name_what_may_be_loaded() -> None:
    """Also by an import within a function, or by a plug-in that this run does not use."""
    for name, entry in yaml("dvc.yaml")["stages"].items():
        if name == "look":  # runs every time
            continue
        deps = entry.get("do", entry)["deps"]
        of_any_kind = [d.replace("${item.kind}", "*") for d in deps if d.startswith("stages/")]
        ours = [path for d in of_any_kind for path in ROOT.glob(d)]
        named = [f for d in ours for f in (d.rglob("*.py") if d.is_dir() else [d])]
        missing = loaded_by(named) - {f.relative_to(ROOT).as_posix() for f in named}
        never = {f"stages/{f}" for f in NEVER_LOADED.get(name, ())}
        assert missing == never, f"{name}: {sorted(missing ^ never)}"


def empty_package(path: Path) -> bool:
    """Whether a file is an __init__ with a docstring and nothing else."""
    body = ast.parse(path.read_text("utf-8")).body
    return path.name == "__init__.py" and all(
        isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) for n in body
    )


@pytest.mark.parametrize("name", ["whiten", "fuse", "evaluate"])
def test_arithmetic_stages_do_not_import_torch(name: str, project: Path, world: Path) -> None:
    entry = next(e for n, e in resolved_stages(project).items() if n.split("@")[0] == name)
    arguments = entry["cmd"].split()[2:]
    arguments[0] = name
    code = RECORD + "\nassert 'torch' not in sys.modules"
    run(sys.executable, "-c", code, *arguments, cwd=world)


# Files of stages without a test file of the same name, and the one that tests them.
TESTED_BY = {
    "core/hdf5.py": "core/test_store.py",
    "core/plugins.py": "core/test_registry.py",
    "datasets/_demo/buildings.py": "datasets/test_demo.py",
    "datasets/_demo/clips.py": "datasets/test_demo_video.py",
    "datasets/_demo/facades.py": "datasets/test_demo.py",
    "datasets/_demo/scenery.py": "datasets/test_demo.py",
    "datasets/_demo/scenes.py": "datasets/test_demo.py",
    "datasets/_images.py": "datasets/test_folder.py",
    "datasets/_svd_lists.py": "datasets/test_svd.py",
    "datasets/_videos.py": "datasets/test_svd.py",
    "distill/ridge_start.py": "test_train.py",
    "distill/training.py": "distill/test_soundness.py",
    "evaluate.py": "test_evaluate_videos.py",
    "extract.py": "test_pipeline.py",
    "_interface.py": "test_interface.py",
    "images/own.py": "test_describe.py",
    "retrieval/plots.py": "test_evaluate_videos.py",
    "retrieval/protocols/positives.py": "retrieval/protocols/test_protocols.py",
    "retrieval/protocols/revisitop.py": "retrieval/protocols/test_protocols.py",
    "retrieval/scoring_rules.py": "tools/report/test_scoring_rules.py",
    "teachers/any_timm.py": "nets/test_backbone.py",
    "tools/audit/label_table.py": "tools/audit/test_audit.py",
    "tools/check/verify.py": "tools/test_tools.py",
    "tools/check_params.py": "tools/setup/test_doctor.py",
    "tools/cost/bench_arithmetic.py": "tools/cost/test_bench.py",
    "tools/cost/bench_inputs.py": "tools/cost/test_bench.py",
    "tools/cost/bench_networks.py": "tools/cost/test_bench.py",
    "tools/cost/budget.py": "tools/report/test_winners.py",
    "tools/cost/estimate.py": "tools/cost/test_plan.py",
    "tools/cost/machine_trial.py": "tools/cost/test_plan.py",
    "tools/cost/timing.py": "tools/cost/test_bench.py",
    "tools/export/model_card.py": "tools/export/test_export.py",
    "tools/export/programs.py": "tools/export/test_export.py",
    "tools/pages.py": "tools/report/test_report.py",
    "tools/report/charts.py": "tools/report/test_report.py",
    "tools/report/results.py": "tools/report/test_scoring_rules.py",
    "tools/report/table.py": "tools/report/test_report.py",
    "tools/search/answers.py": "tools/search/test_index_and_search.py",
    "tools/search/changes.py": "tools/search/test_generations.py",
    "tools/search/faiss_index.py": "tools/search/test_generations.py",
    "tools/search/http_server.py": "tools/search/test_serve.py",
    "tools/search/index.py": "tools/search/test_index_and_search.py",
    "tools/search/live_index.py": "tools/search/test_serve.py",
    "tools/search/search.py": "tools/search/test_index_and_search.py",
    "tools/setup/downloads.py": "tools/setup/test_doctor.py",
    "tools/setup/project.py": "tools/setup/test_init.py",
}


def test_every_file_has_its_test() -> None:
    untested = []
    for path in FILES:
        name = path.relative_to(ROOT / "stages")
        if name.stem in ("__init__", "__main__", "errors"):
            continue
        own = ROOT / "tests" / name.with_name(f"test_{name.stem}.py")
        other = TESTED_BY.get(name.as_posix())
        if own.is_file():
            assert other is None, f"{name} has a test of its own; take it out of TESTED_BY"
        elif other is None or not (ROOT / "tests" / other).is_file():
            untested.append(name.as_posix())
    assert not untested, f"no test file: {', '.join(untested)}"


def test_the_package_has_every_folder() -> None:
    """pyproject.toml lists packages one by one, since `stages` is installed as `whiten_mtd`."""
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = {p.parent.relative_to(ROOT / "stages") for p in FILES if p.name == "__init__.py"}
    assert set(listed["packages"]) == {".".join(("whiten_mtd", *f.parts)) for f in folders}
