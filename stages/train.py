"""Train the student on stored targets: no teacher file is opened.

    python -m stages.train data/prepared/train.h5 data/targets models/student models/untrained

Takes the frame of the targets whose ridge start validates best, learns by `train.loss`, measures
retrieval on the validation groups (from before the first step on) and ships what they show to be
best: an average of the start and the last weights, the best weights, the start, or the untrained
network with a closed-form head. An interrupted run goes on where it was, to the same weights.
Evaluation sets are never looked at.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from .core import console, files, params, runtime
from .core.errors import UserError
from .core.plugins import nearest
from .distill import history, losses, verdict
from .distill.targets import Prototypes, Targets, read_frames
from .images.sets import TrainSet

if TYPE_CHECKING:
    from .distill.ridge_start import Chosen
    from .distill.shipping import Candidate, Choice
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
    average: Literal["path", "moving", "none"]
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
    from .distill import student as students
    from .distill.shipping import choose
    from .distill.training import Loop
    from .nets import weights
    from .retrieval import validation

    given = params.read(params_file)
    p, name = given.section("train", Params), given.student
    objective = p.objective()
    views = TrainSet.read(train)
    views.check_images()
    plan = Targets.read(targets, views)
    # Without a ridge start nothing can be compared in closed form; an old model has its own frame.
    choice_of_frames = p.head == "ridge" and p.compatible_with is None
    by_frame = read_frames(targets, plan, views, first=not choice_of_frames)
    student = first_student(name, p, dim=next(iter(by_frame.values())).prototype.shape[1])
    by_frame, old_model = following_old_model(p, out_student, student, views, by_frame)
    students.save(
        students.bare(student), out_untrained, card(name, "before any training"), loss="none"
    )
    probe = None
    if p.validate_every:
        probe = validation.read(train.parent, p.image_px, p.view_px)
    untrained, frame = closed_form(student, p, views, by_frame, probe)
    source = {
        "train": views.digest, "targets": [s.digest for s in plan.shards], "student": name,
        "params": p.model_dump(), "start": weights.digest_of_state(student), "old_model": old_model,
        "frame": frame.frame,
    }  # fmt: skip
    started_with = {**source, "probe": probe is not None, "contents": views.images}
    with runtime.parts("train", **started_with) as parts:
        check_room(student, out_student, parts)
        loop = Loop(student, plan_of(p), objective, views, plan, by_frame[frame.frame], probe)
        loop.run(parts)
        average = "none" if old_model else p.average
        choice = choose(student, probe, loop.made(), average, untrained, ridge=p.head == "ridge")
        write(loop, choice, frame, out_student, name, p, files.digest_of(source))
    if loop.diverged is not None:
        console.say(
            f"warning: {loop.diverged}; stopped, and steps after {choice.shipped.step} are lost. "
            "Lower train.lr, or mend what it learns from"
        )
    for line in verdict.lines(choice, views.groups, loop.steps):
        console.say(line)


def following_old_model(
    p: Params, folder: Path, student: "Student", views: TrainSet, by_frame: dict[str, Prototypes]
) -> tuple[dict[str, Prototypes], str | None]:
    """The prototypes that the old model gives in place of its one frame's, and its digest, with a
    copy of it kept in `folder`; without an old model what was given, and None."""
    from .distill import ridge_start
    from .distill import student as students

    students.forget(folder / params.OLD_MODEL)
    if p.compatible_with is None:
        return by_frame, None
    old = Path(p.compatible_with)
    followed = {
        name: ridge_start.old_model_prototypes(old, student.dim, views, prototypes)
        for name, prototypes in by_frame.items()
    }
    digest = files.digest_of_file(old / "model.safetensors")
    students.keep_old_model(old, folder)
    return followed, digest


def closed_form(
    student: "Student", p: Params, views: TrainSet, by_frame: dict[str, Prototypes], probe: Any
) -> tuple[dict[str, Any] | None, "Chosen"]:
    """Give the student its ridge start, where asked for, and say in which frame; the untrained
    network's weights with a head by PCA, where there is a `probe` to measure them. An old model's
    index fits neither."""
    from .distill import ridge_start

    chosen = ridge_start.Chosen(next(iter(by_frame)))
    wanted = probe is not None and p.compatible_with is None
    if p.head != "ridge" and not wanted:
        return None, chosen
    rows, features = ridge_start.sample(student, views, p.view_px, p.seed)
    untrained = ridge_start.untrained_head(student, features) if wanted else None
    if p.head == "ridge":
        chosen = ridge_start.ridge(student, rows, features, by_frame, p.seed, probe)
    return untrained, chosen


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
        validate_every=p.validate_every, patience=p.patience, seed=p.seed, average=p.average,
    )  # fmt: skip


def write(
    loop: "Loop", choice: "Choice", frame: "Chosen", folder: Path, name: str, p: Params, source: str
) -> None:
    """Write what is shipped, what training made where that is another, the history, its image."""
    from .distill import student

    student.forget(folder / params.TRAINED)
    save(loop, choice, choice.shipped, frame, folder, name, p, source)
    if choice.trained is not choice.shipped:
        save(loop, choice, choice.trained, frame, folder / params.TRAINED, name, p, source)
    history.write(folder / "history.csv", loop.history)
    history.draw(folder / "training.png", loop.history, choice.shipped.step, choice.curve())


def save(
    loop: "Loop", choice: "Choice", chosen: "Candidate", frame: "Chosen", folder: Path, name: str,
    p: Params, source: str,
) -> None:  # fmt: skip
    """Write one of the candidates as a student's folder."""
    from .distill import shipping, student

    losses = loop.objective.weights
    of_training = chosen.kind != shipping.UNTRAINED
    aligned = loop.objective.aligned and p.compatible_with is None and of_training
    loop.student.load_state_dict(chosen.state)
    student.save(
        loop.student, folder, card(name, how_made(loop, chosen)), loss=losses,
        parents=source, step=chosen.step, steps=loop.step, shipped=chosen.kind, share=chosen.share,
        **measures("validation", chosen), **measures("trained_validation", choice.trained),
        **({"trained_apart": True} if choice.trained is not choice.shipped else {}),
        path=choice.curve(), frame=frame.frame, frames=frame.table(), aligned=aligned,
        backward_compatible=p.compatible_with is not None,
        view_px=p.view_px,
    )  # fmt: skip


def measures(name: str, candidate: "Candidate") -> dict[str, float | None]:
    """`<name>_map` and `<name>_error` of config.json, None where not measured."""
    from .distill.shipping import rounded

    score = candidate.score
    if score is None:
        return {f"{name}_map": None, f"{name}_error": None}
    return {f"{name}_map": score.map, f"{name}_error": rounded(score.error)}


def how_made(loop: "Loop", chosen: "Candidate") -> str:
    """What made the student, for its card."""
    if loop.steps == 0:
        return f"{chosen.described()}: 0 steps of training ran"
    return f"{chosen.described()} of a training by {', '.join(loop.objective.weights)}"


def card(name: str, how: str) -> str:
    """A few lines for whoever finds the folder."""
    return (
        f"# {name}, {how}\n\nA small image-retrieval model. Load it with "
        "`whiten_mtd.load_student(folder)`, or by hand from `config.json` and "
        "`model.safetensors` (timm backbone, pooling, L2, linear head, L2).\n"
    )


if __name__ == "__main__":
    console.main(app)
