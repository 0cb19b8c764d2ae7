"""The training loop: replayed views in, better weights out; resumable to the same weights."""

import io
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core import console, machine, runtime
from ..core.errors import UserError
from ..images.replay import CACHE_BYTES, Replay
from ..images.sets import TrainSet
from ..nets.embed import as_input
from ..nets.prefetch import ahead
from . import schedule, soundness
from .averaging import Moving, State
from .losses import Objective
from .record import Record
from .shipping import START, TRAINED, Candidate, Made, Probe, Score
from .student import Student
from .targets import Prototypes, Targets

CHECKPOINT_SECONDS = 60.0
UNREAD = 50  # losses that wait to be read from the device
HELD_OUT_STEPS = 8  # batches of the held-out shard that the loss is measured on


@dataclass(frozen=True)
class Plan:
    """What a run needs beside its data."""

    epochs: int
    view_px: int  # side of a training view
    lr: float
    final_lr: float
    backbone_lr_scale: float
    weight_decay: float
    amp: bool
    validate_every: int  # steps; 0: never
    patience: int  # validations without a gain before it stops; 0: never
    seed: int
    average: str = "none"  # path, moving or none; the loop itself keeps the moving one only


class Loop:
    """Trains `student` in place; `made` is what it leaves: first, last and best weights.

    `probe` measures retrieval, None without validation groups; then the loss on the held-out shard
    tells which are the best, and without one the last.
    """

    def __init__(
        self,
        student: Student,
        plan: Plan,
        objective: Objective,
        views: TrainSet,
        targets: Targets,
        prototypes: Prototypes,
        probe: Probe | None,
    ) -> None:
        self.student, self.plan, self.objective = student, plan, objective
        self.targets, self.probe = targets, probe
        self.view_prototype = prototypes.view_prototype
        self.device = next(student.parameters()).device
        self.prototype = torch.from_numpy(prototypes.prototype).to(self.device)
        self.replay = Replay(views, plan.view_px, CACHE_BYTES // max(machine.workers(), 1))
        self.steps = plan.epochs * targets.steps
        self.step = 0  # steps done
        self.start = snapshot(student)
        self.moving = Moving(student.state_dict()) if plan.average == "moving" else None
        self.record = Record()
        self._optimizer = schedule.adam(student, plan.lr, plan.backbone_lr_scale, plan.weight_decay)
        self.diverged: soundness.Diverged | None = None  # where it did, and why

    def run(self, parts: runtime.Parts) -> None:
        """Train to the end, to where patience ends it, or to where it diverges; then the student
        has its best sound weights, the start included. Raises KeyboardInterrupt when stopped.
        """
        try:
            self._run(parts)
        except soundness.Diverged as error:
            self.diverged = error
            self._go_back()

    def _go_back(self) -> None:
        """To the best weights that were measured, or the start; later steps are forgotten."""
        self.moving, best = None, self.record.go_back()
        self.step, state = (0, self.start) if best is None else (best.step, best.state)
        self.student.load_state_dict(state)

    def _run(self, parts: runtime.Parts) -> None:
        torch.manual_seed(self.plan.seed)
        if not self._resume(parts):
            self._validate()
        saved = time.monotonic()
        with runtime.Stop() as stop:
            batches = self._unless_stopped(stop, self._batches())
            whole = console.Whole(self.steps, self.step)
            for pixels in console.progress(batches, label="train", whole=whole):
                self._learn(pixels)
                last = self.step == self.steps
                if last or self._every(self.plan.validate_every):
                    self._validate()
                if stop.asked or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._checkpoint(parts)
                    saved = time.monotonic()
                if stop.asked:
                    raise KeyboardInterrupt
                if self._patience_is_over():
                    break
            if stop.asked:  # while it waited for a batch that did not come
                self._checkpoint(parts)
                raise KeyboardInterrupt
        self.record.flush()

    def _unless_stopped(self, stop: runtime.Stop, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        """`batches`, ending early where the loading processes heard of the stop first."""
        try:
            yield from batches
        except UserError:
            if not stop.asked:
                raise

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was written down, step by step."""
        return self.record.history

    def made(self) -> Made:
        """The weights at the start, the last and the best ones, with their scores."""
        first = self._candidate(0, self.start, 0.0)
        last = self._candidate(self.step, snapshot(self.student), 1.0) if self.step else first
        best, known = last, self.record.best
        if known is not None and known.step != self.step:
            best = self._candidate(known.step, known.state, None if known.step else 0.0)
        return Made(first, last, best, self.moving)

    def _candidate(self, step: int, state: State, share: float | None) -> Candidate:
        ap = self.record.aps.get(step)
        score = None if ap is None or self.probe is None else self.probe.score(ap)
        return Candidate(TRAINED if step else START, state, score, step, share)

    def _learn(self, pixels: Tensor) -> None:
        """One step on (2N, px, px, 3) uint8 pixels: N anchors, then N positives."""
        self.student.train()
        self._set_rate()
        loss = self.loss(pixels, self.targets, self.step)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        epoch = self.step // self.targets.steps
        self.step += 1
        self.record.add_step(self.step, epoch, self._rate(), loss.detach())
        if self.moving is not None:
            self.moving.add(self.student.state_dict(), self.step)
        self.record.flush(at_least=UNREAD)

    def loss(self, pixels: Tensor, targets: Targets, step: int) -> Tensor:
        """The objective on batch `step` of `targets`: anchors and positives are two forwards."""
        x = as_input(pixels, self.device)
        n = len(x) // 2
        amp = torch.autocast("cuda", torch.bfloat16) if self.plan.amp else nullcontext()
        with amp:
            anchor, positive = self.student(x[:n]), self.student(x[n:])
        return self.objective(anchor, positive, self._given(targets, step))

    def _given(self, targets: Targets, step: int) -> dict[str, Tensor]:
        """What the losses need of the ensemble on batch `step` of `targets`."""
        given = {}
        if "target" in self.objective.needs:
            target = targets.target(step).astype(np.float32)
            given["target"] = torch.from_numpy(target).to(self.device)
        if "prototype" in self.objective.needs:
            rows = self.view_prototype[targets.rows(step)]
            row = torch.from_numpy(rows.astype(np.int64)).to(self.device)
            given["prototype"] = self.prototype[row]
        return given

    def _batches(self) -> Iterator[Tensor]:
        return ahead(self._pixels, range(self.step, self.steps))

    def _pixels(self, step: int) -> np.ndarray:
        return self.replay.rows(self.targets.rows(step).reshape(-1))

    def _validate(self) -> None:
        """Measure, note it in the history, and remember the weights where they are the best."""
        self.record.flush()
        score = None
        entry: dict[str, Any] = {"step": self.step}
        if self.step and not soundness.finite(self.student.state_dict()):
            raise soundness.Diverged("a weight is NaN or infinity", self.step, self._rate())
        ap = None
        if self.probe is not None:
            measured = self._probed()
            ap, score = measured.ap, measured.map
            entry["validation_map"] = score
            if np.isfinite(measured.error):
                entry["validation_error"] = measured.error
        if self.targets.held_out is not None and self.step:
            loss = entry["held_out_loss"] = self._held_out_loss()
            soundness.refuse_score("loss on the held-out batches", loss, self.step, self._rate())
            score = -loss if score is None else score
        self.record.add_measure(entry, score, ap, lambda: snapshot(self.student))

    def _probed(self) -> Score:
        """The measure of the probe. Raises Diverged where it is no number after a step."""
        assert self.probe is not None
        try:
            score = self.probe(self.student)
        except UserError as error:  # rows that are no numbers
            if not self.step:
                raise
            raise soundness.Diverged(str(error), self.step, self._rate()) from None
        soundness.refuse_score("validation", score.map, self.step, self._rate())
        return score

    def _rate(self) -> float:
        """The learning rate of the last step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def _held_out_loss(self) -> float:
        held = Targets((self.targets.held_out,), None)  # type: ignore[arg-type]
        self.student.eval()
        losses = []
        with torch.inference_mode():
            for step in range(min(held.steps, HELD_OUT_STEPS)):
                pixels = torch.from_numpy(self.replay.rows(held.rows(step).reshape(-1)))
                losses.append(float(self.loss(pixels, held, step)))
        return float(np.mean(losses))

    def _patience_is_over(self) -> bool:
        best = self.record.best
        if best is None or not self.plan.patience or not self.plan.validate_every:
            return False
        return self.step - best.step >= self.plan.patience * self.plan.validate_every

    def _every(self, steps: int) -> bool:
        return bool(steps) and self.step % steps == 0

    def _set_rate(self) -> None:
        lr = schedule.rate(self.step, self.steps, self.plan.lr, self.plan.final_lr)
        schedule.set_rate(self._optimizer, lr)

    def _checkpoint(self, parts: runtime.Parts) -> None:
        self.record.flush()
        state = {
            "step": self.step, "student": self.student.state_dict(), **self.record.state(),
            "optimizer": self._optimizer.state_dict(), "random": torch.get_rng_state(),
            "moving": None if self.moving is None else self.moving.state,
        }  # fmt: skip
        buffer = io.BytesIO()
        torch.save(state, buffer)
        parts.save("checkpoint", np.frombuffer(buffer.getbuffer(), np.uint8))

    def _resume(self, parts: runtime.Parts) -> bool:
        raw = parts.load("checkpoint")
        if raw is None:
            return False
        state = torch.load(io.BytesIO(raw.tobytes()), map_location="cpu", weights_only=True)
        self.student.load_state_dict(state["student"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.record.restore(state)
        if self.moving is not None:
            self.moving.state = {k: v.to(self.device) for k, v in state["moving"].items()}
        torch.set_rng_state(state["random"])
        console.say(f"going on after step {self.step} of {self.steps}")
        return True


def snapshot(student: Student) -> State:
    """A copy of the student's weights in main memory."""
    state = student.state_dict()
    return {
        k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in state.items()
    }
