"""Train the student on stored targets: no teacher file is opened.

    python -m stages.train data/prepared/train.h5 data/targets models/student models/untrained

Learns by `train.loss`, measures retrieval on the validation groups (from before the first step on)
and keeps the best weights, the start included. An interrupted run goes on where it was, to the same
weights. Evaluation sets are never looked at.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from .core import console, files, params, runtime
from .core.errors import UserError
from .core.plugins import nearest
from .distill import history, losses
from .distill.targets import Prototypes, Targets
from .images.sets import TrainSet

if TYPE_CHECKING:
    from .distill.student import Student
    from .distill.training import Loop, Plan

app = console.app()


class Params(params.Section):
    """Section `train` of params.yaml."""

    loss: str | dict[str, float]  # a file of stages/distill/losses, or weights of several
    temperature: float | dict[str, float]
    head: Literal["ridge", "random"]
    epochs: int = Field(ge=0)
    lr: float = Field(gt=0)
    final_lr: float = Field(ge=0)
    backbone_lr_scale: float = Field(ge=0)
    weight_decay: float = Field(ge=0)
    view_px: int = Field(ge=16, le=4096)
    image_px: int = Field(ge=16, le=4096)
    pool: Literal["auto", "gem", "avg", "token"]
    gem_p: float = Field(gt=0)
    weights: str
    without_weights: Literal["random", "stop"]
    amp: Literal["auto", "off"]
    validate_every: int = Field(ge=0)
    patience: int = Field(ge=0)
    compatible_with: str | None
    seed: int = Field(ge=0)

    @field_validator("loss")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        known = losses.names()
        for name in value if isinstance(value, dict) else [value]:
            if name not in known:
                raise ValueError(
                    f"no loss {name!r}{nearest(str(name), known)}: choose from {', '.join(known)}"
                )
        weights = value.values() if isinstance(value, dict) else [1.0]
        if min(weights, default=0) < 0 or sum(weights) <= 0:
            raise ValueError("weights of losses must not be negative, nor all zero")
        return value

    @field_validator("temperature")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if min(value.values() if isinstance(value, dict) else [value], default=0) <= 0:
            raise ValueError("a temperature must be positive")
        return value

    def objective(self) -> losses.Objective:
        """The losses that count, each with its weight and its temperature."""
        weights = self.loss if isinstance(self.loss, dict) else {self.loss: 1.0}
        return losses.Objective(weights, self.temperature)


@app.command()
def main(
    train: Path,
    targets: Path,
    out_student: Path,
    out_untrained: Path,
    params_file: Path = params.OPTION,
) -> None:
    """Train the student on stored targets."""
    from .distill import ridge_start
    from .distill import student as students
    from .distill.training import Loop
    from .nets import weights
    from .retrieval import validation

    given = params.read(params_file)
    p, name = given.section("train", Params), given.student
    objective = p.objective()
    views = TrainSet.read(train)
    views.check_images()
    plan = Targets.read(targets, views)
    prototypes = Prototypes.read(targets / "prototypes.h5", plan, views)
    student = first_student(name, p, dim=prototypes.prototype.shape[1])
    students.forget_old_model(out_student)
    old_model = None
    if p.compatible_with is not None:
        prototypes = ridge_start.old_model_prototypes(
            Path(p.compatible_with), student.dim, views, prototypes
        )
        old_model = files.digest_of_file(Path(p.compatible_with) / "model.safetensors")
        students.keep_old_model(Path(p.compatible_with), out_student)
    students.save(
        students.bare(student), out_untrained, card(name, "before any training"), loss="none"
    )
    if p.head == "ridge":
        ridge_start.ridge(student, views, prototypes, p.view_px, p.seed)
    source = {
        "train": views.digest, "targets": [s.digest for s in plan.shards], "student": name,
        "params": p.model_dump(), "start": weights.digest_of_state(student), "old_model": old_model,
    }  # fmt: skip
    probe = validation.read(train.parent, p.image_px) if p.validate_every else None
    with runtime.parts("train", **source, probe=probe is not None) as parts:
        check_room(student, out_student, parts)
        loop = Loop(student, plan_of(p), objective, views, plan, prototypes, probe)
        loop.run(parts)
        finish(loop, out_student, name, p, files.digest_of(source), views.groups)


def first_student(name: str, p: Params, dim: int) -> "Student":
    """The student before its first step; says plainly where it starts from random weights."""
    from .distill import student
    from .nets import embed, hub

    def create(source: str) -> "Student":
        return student.create(
            name, dim=dim, image_px=p.image_px, pool=p.pool, gem_p=p.gem_p, source=source,
            seed=p.seed,
        )  # fmt: skip

    try:
        made = create(p.weights)
    except hub.Missing as error:
        if p.without_weights == "stop":
            raise UserError(
                f"{error}; or set train.weights to a file, or train.without_weights to random"
            ) from None
        console.say(
            f"warning: {error}; the student starts from random weights and will be far weaker. "
            "Where they are to be had: dvc repro --force --single-item train"
        )
        made = create("random")
    for side, key in ((p.view_px, "view_px"), (p.image_px, "image_px")):
        made.backbone.try_side(side, f"train.{key}")
    embed.ready(made, runtime.device())
    return made


def check_room(student: "Student", folder: Path, parts: runtime.Parts) -> None:
    """Raise OSError, before hours of work, where what training writes would not fit."""
    from .distill.student import weight_bytes

    one = weight_bytes(student)
    files.check_room(folder, 2 * one)  # the best weights and the last ones
    files.check_room(parts.folder, 4 * one)  # a checkpoint: weights, the best ones, Adam's moments


def plan_of(p: Params) -> "Plan":
    """The loop's own view of the parameters."""
    from .distill.training import Plan

    amp = p.amp == "auto" and runtime.device().type == "cuda"
    return Plan(
        epochs=p.epochs, view_px=p.view_px, lr=p.lr, final_lr=p.final_lr,
        backbone_lr_scale=p.backbone_lr_scale, weight_decay=p.weight_decay, amp=amp,
        validate_every=p.validate_every, patience=p.patience, seed=p.seed,
    )  # fmt: skip


def finish(loop: "Loop", folder: Path, name: str, p: Params, source: str, groups: int) -> None:
    """Write the best weights, the last ones where they differ, the history and its image."""
    from safetensors.torch import save_file

    from .distill import student

    last = loop.keep_best()
    weights = loop.objective.weights
    step = loop.step if loop.best is None else loop.best.step
    student.save(
        loop.student, folder, card(name, how_made(loop)), loss=weights,
        parents=source, step=step, steps=loop.step, validation_map=loop.best_map,
        aligned=loop.objective.aligned and p.compatible_with is None,
        backward_compatible=p.compatible_with is not None, view_px=p.view_px,
    )  # fmt: skip
    if last is not None:
        with files.atomic(folder / "last.safetensors") as temporary:
            save_file(last, temporary, metadata={"format": "pt"})
    history.write(folder / "history.csv", loop.history)
    history.draw(folder / "training.png", loop.history, step)
    if loop.diverged is not None:
        kept = f"step {step}" if step else "the start"
        console.say(
            f"warning: {loop.diverged}; stopped, and the weights of {kept} are shipped. Lower "
            "train.lr, or mend what it learns from"
        )
        if loop.best is None:
            return
    console.say(verdict(loop, groups))


def verdict(loop: "Loop", groups: int) -> str:
    """What training brought, in one line."""
    best = loop.best_map
    if loop.steps == 0:
        score = "" if best is None else f" ({best:.1f} mAP on the validation groups)"
        return (
            "0 steps ran: train.epochs is 0, so nothing was trained and the start itself is the "
            f"student{score}"
        )
    if loop.best is None or best is None:
        return f"{loop.step} steps; the last weights are kept: no validation groups to choose by"
    start = loop.measured()[0]
    if loop.best.step == 0:
        return (
            f"training did not help: the start was best ({start:.1f} mAP on the validation groups) "
            f"and is kept; {groups} groups are few, or train.lr is high: more images or a "
            "lower rate may change that"
        )
    return (
        f"{loop.step} steps; best at step {loop.best.step}: {best:.1f} mAP on the "
        f"validation groups, {start:.1f} at the start"
    )


def how_made(loop: "Loop") -> str:
    """What made the student, for its card."""
    if loop.steps == 0:
        return "the start itself: 0 steps of training ran"
    return f"trained by {', '.join(loop.objective.weights)}"


def card(name: str, how: str) -> str:
    """A few lines for whoever finds the folder."""
    return (
        f"# {name}, {how}\n\nA small image-retrieval model. Load it with "
        "`whiten_mtd.load_student(folder)`, or by hand from `config.json` and "
        "`model.safetensors` (timm backbone, pooling, L2, linear head, L2).\n"
    )


if __name__ == "__main__":
    console.main(app)
