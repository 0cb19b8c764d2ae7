"""A script: how good the choice of whitening is, on the evaluation sets of a finished run.

    python tests/whitening_table.py RUN [--no-labels] [--seed N]

By teacher: mAP raw, with what `auto` chooses on the training views of RUN (all knobs auto), and with
the best of all candidates there, each fitted on all training views.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from stages.core import params, store
from stages.distill import learned_whitening, prototypes, whitening, whitening_choice
from stages.distill.whitening_choice import Candidate, Half, Knobs
from stages.images.sets import TrainSet
from stages.retrieval.benchmark import Benchmark

AUTO = Knobs("auto", "auto", "auto", "auto", 1e-5)


def fitted(half: Half, c: Candidate) -> whitening.Whitening:
    """Candidate `c` fitted on the moments of all views."""
    mean, total, d = half.total.mean, half.total.covariance, len(half.total.mean)
    if c.method == "none":
        return whitening.Whitening(np.zeros(d), np.eye(d), np.ones(d), 1.0)
    if c.method == "pca":
        return whitening.fit_pca(mean, total, dim=c.dim, exponent=c.exponent, floor=AUTO.floor)
    return whitening.fit_learned(
        mean, total, half.within, dim=c.dim, shrinkage=c.shrinkage, floor=AUTO.floor
    )


class Teacher:
    """One teacher of a run: its choice on the training views, its images of an evaluation set."""

    def __init__(
        self, run: Path, name: str, views: TrainSet, benchmark: Benchmark, seed: int, labels: bool
    ) -> None:
        x = np.asarray(store.Stored(run / f"data/features/{name}.h5", "features")["descriptor"])
        image = views.view_image
        group = views.group[image] if labels else np.full(len(image), -1)
        self.choice = whitening_choice.choose(x, group, image, AUTO, seed=seed)
        within = None
        if self.choice.by == "groups":
            rng = np.random.default_rng(0)
            within = learned_whitening.within(x, group, image, len(x), rng)
        self._half = Half(whitening.moments([x], x.shape[1]), within)
        self._benchmark = benchmark
        of_set = partial(store.Stored, kind="descriptors")
        found = benchmark.described(run / "data/described" / name, of_set)
        self.raw = (np.asarray(found.query[:]), np.asarray(found.database[:]))

    def scores(self) -> dict[Candidate, float]:
        """mAP of every candidate; those of one method and strength are prefixes of the widest."""
        widest: dict[tuple[str, float, float], list[np.ndarray]] = {}
        found = {}
        for c in sorted(self.choice.scores, key=lambda c: -c.dim):
            key = (c.method, c.exponent, c.shrinkage)
            if key not in widest:
                widest[key] = self.whitened(c)
            cut = [whitening.l2n(rows[:, : c.dim]) for rows in widest[key]]
            found[c] = scored(self._benchmark, *cut)
        return found

    def whitened(self, c: Candidate) -> list[np.ndarray]:
        """Queries and database under candidate `c`, fitted on all views."""
        by = fitted(self._half, c)
        return [whitening.apply(rows, by) for rows in self.raw]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--no-labels", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    values = params.parse((given.run / "params.yaml").read_bytes(), "params.yaml")
    views = TrainSet.read(given.run / "data/prepared/train.h5")
    prepared = given.run / "data/prepared/evaluation"
    for name in sorted(p.stem for p in prepared.glob("*.json")):
        benchmark = Benchmark.read(prepared, name)
        raws, white = [], []
        for t in values["ensemble"]:
            teacher = Teacher(given.run, t, views, benchmark, given.seed, not given.no_labels)
            scores, taken = teacher.scores(), teacher.choice.taken
            best = whitening_choice.best(scores)
            raw = next(s for c, s in scores.items() if c.method == "none")
            print(f"{name} {t}: raw {raw:.1f}; auto {scores[taken]:.1f} ({taken}); "
                  f"possible {scores[best]:.1f} ({best})", flush=True)  # fmt: skip
            raws.append(teacher.raw)
            white.append(teacher.whitened(taken))
        for label, pairs in (("raw", raws), ("auto", white)):
            both = [together([p[i] for p in pairs]) for i in (0, 1)]
            print(f"{name} together, {label}: {scored(benchmark, *both):.1f}", flush=True)


def together(rows: list[np.ndarray]) -> np.ndarray:
    return prototypes.concatenate([whitening.l2n(np.asarray(r, dtype=np.float32)) for r in rows])


def scored(benchmark: Benchmark, query: np.ndarray, database: np.ndarray) -> float:
    """mAP in percent of the difficulty that headlines use."""
    found = benchmark.truth.protocol.all_scores(benchmark.ranks(query, database))
    return float(found[benchmark.truth.protocol.headline(list(found))]["map"])


if __name__ == "__main__":
    main()
