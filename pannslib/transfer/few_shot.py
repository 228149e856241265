"""Few clips a class: how far each strategy gets with 2, 5, 10, ... of them (Figures 6 to 11)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pannslib import files, metrics, progress
from pannslib.catalogue import TransferSettings
from pannslib.datasets import PackedClips
from pannslib.transfer.experiment import Bench, Metric, TransferResult, inputs_of, metric_for, open_units
from pannslib.transfer.pretrained import Pretrained
from pannslib.transfer.splits import Split, clips_per_class, few_clips, reachable
from pannslib.transfer.strategies import STRATEGIES


@dataclass(frozen=True, eq=False)
class FewShotResult:
    """What every strategy reached with few clips a class.

    Attributes:
        metric: how it is scored.
        draws: a row a strategy, point and draw: strategy, shots (clips a class asked for), clips_per_class (their mean
            as drawn), draw, fold (tested), value, all (whether this is the point of all training clips).
        chance: the score of a guess.
        notes: sentences, such as which points are left out.
        whole: the experiment on all training clips, if it was given.
    """

    metric: Metric
    draws: pd.DataFrame
    chance: float
    notes: tuple[str, ...]
    whole: TransferResult | None = None

    def summary(self) -> pd.DataFrame:
        """A row a strategy and point, fewest clips first: the mean over the draws with its 95 % bootstrap interval.

        The point of all clips has the interval of the experiment: over folds, or over test clips.
        """
        rows = []
        limits = None if self.whole is None else self.whole.summary().set_index("strategy")
        for (strategy, shots, every), part in self.draws.groupby(["strategy", "shots", "all"], sort=False):
            mean, low, high = metrics.mean_interval(part["value"])
            if every and limits is not None:
                low, high = limits.loc[strategy, ["low", "high"]].astype(float)
            rows.append(
                {
                    "strategy": strategy,
                    "shots": shots,
                    "clips_per_class": part["clips_per_class"].mean(),
                    "all": every,
                    "value": mean,
                    "low": low,
                    "high": high,
                    "draws": len(part),
                }
            )
        frame = pd.DataFrame(rows)
        order = frame["strategy"].map({name: place for place, name in enumerate(STRATEGIES)})
        return frame.iloc[sorted(range(len(frame)), key=lambda i: (order[i], frame["clips_per_class"][i]))].reset_index(
            drop=True
        )

    def fewest(self) -> int:
        """The fewest clips a class at which all strategies were tried."""
        common = self.draws[~self.draws["all"]].groupby("shots")["strategy"].nunique()
        common = common[common == self.draws["strategy"].nunique()]
        return int((common if len(common) else self.draws.groupby("shots")["strategy"].nunique()).index.min())


def few_shot(
    packed: PackedClips,
    splits: list[Split],
    strategies: Sequence[str],
    pretrained: Pretrained,
    settings: TransferSettings,
    folder: str | Path,
    shots: Sequence[int],
    whole: TransferResult | None = None,
    metric: str | None = None,
    title: str = "few clips",
) -> FewShotResult:
    """Train strategies on few clips a class and test them on whole test folds, or read what is finished.

    Draw n of a point tests split n (starting over after the last), on training clips that are drawn from that split
    alone, the same for all strategies. ``settings.few_shot`` says how many draws, how many iterations and which
    strategies; a point that fewer than half of the classes can reach is left out, and the notes say so.

    Args:
        shots: clips a class, such as 2, 5, 10.
        whole: the experiment on all training clips, which gives the last point of each strategy.
        The others are as in `experiment`.
    """
    few = settings.few_shot
    bench = Bench(packed, pretrained, settings)
    scored = metric_for(bench.clips, metric)
    inputs = inputs_of(bench, splits) | {
        "metric": scored.name,
        "few_shot": few.model_dump(include={"frozen_iterations", "whole_iterations"}),
    }
    path = open_units(Path(folder) / "few_shot", inputs, "*_*.json")
    possible = [point for point in sorted(set(shots)) if reachable(splits, bench.clips, point)]
    work = [
        (strategy, point, draw)
        for point in possible
        for strategy in strategies
        if STRATEGIES[strategy].frozen or few.whole_points is None or point in few.whole_points
        for draw in range(few.draws if STRATEGIES[strategy].frozen else few.whole_draws)
    ]
    todo = [unit for unit in work if not _unit_file(path, *unit).is_file()]
    if todo:
        steps = {s: few.frozen_iterations if STRATEGIES[s].frozen else few.whole_iterations for s in strategies}
        total, left = (sum(steps[strategy] for strategy, _, _ in units) for units in (work, todo))
        bar = progress.bar(total, title, initial=total - left)
        for strategy, point, draw in todo:
            bar.set_description(f"{STRATEGIES[strategy].title}, {point} clips a class")
            split = splits[draw % len(splits)]
            rows = few_clips(split, bench.clips, point, bench.seed("few", point, draw))
            optimisation = getattr(settings, strategy).model_copy(update={"iterations": steps[strategy]})
            trained = bench.train(strategy, rows, optimisation, ("few", point, draw), bar)
            clips, scores = trained.predict(split.test)
            record = {
                "strategy": strategy,
                "shots": point,
                "clips_per_class": clips_per_class(split, bench.clips, rows),
                "draw": draw,
                "fold": split.name,
                "value": scored.of(bench.clips.targets[clips], scores),
                "all": False,
            }
            files.write_json(_unit_file(path, strategy, point, draw), record)
        bar.close()
    rows = [files.read_json(_unit_file(path, *unit)) for unit in work]
    rows += _of_all(whole, strategies, splits, bench) if whole is not None else []
    notes = _notes(shots, possible, few, splits, bench)
    return FewShotResult(scored, pd.DataFrame(rows), scored.chance(bench.clips.targets), notes, whole)


def _unit_file(folder: Path, strategy: str, point: int, draw: int) -> Path:
    return folder / f"{strategy}_{point}_{draw}.json"


def _of_all(whole: TransferResult, strategies: Sequence[str], splits: list[Split], bench: Bench) -> list[dict]:
    """The last point: all training clips, a row a strategy and split of the experiment."""
    size = {split.name: clips_per_class(split, bench.clips, split.training) for split in splits}
    folds = whole.folds()
    return [
        {
            "strategy": row.strategy,
            "shots": 0,
            "clips_per_class": size[row.fold],
            "draw": position,
            "fold": row.fold,
            "value": row.value,
            "all": True,
        }
        for strategy in strategies
        for position, row in enumerate(folds[folds["strategy"] == strategy].itertuples())
    ]


def _notes(shots: Sequence[int], possible: list[int], few, splits: list[Split], bench: Bench) -> tuple[str, ...]:
    """Which points are left out, and where a class gives fewer clips than the point says."""
    missing = [str(point) for point in sorted(set(shots)) if point not in possible]
    least = int(min(bench.clips.targets[bench.clips.of_row[s.training]].sum(0).min() for s in splits))
    notes = []
    if missing:
        mean = sum(clips_per_class(split, bench.clips, split.training) for split in splits) / len(splits)
        notes.append(
            f"Left out: {', '.join(missing)} clips a class, more than half of the classes have to draw from (all are "
            f"{mean:.1f} a class on average)."
        )
    if any(point > least for point in possible):
        points = ", ".join(str(point) for point in possible if point > least)
        notes.append(f"At {points} clips a class, the smallest classes give all that they have.")
    if few.whole_points is not None and set(few.whole_points) < set(possible):
        notes.append(
            "Whole networks are trained at "
            f"{', '.join(str(point) for point in possible if point in few.whole_points) or 'none'} clips a class only, "
            "which the profile says (few_shot: whole_points)."
        )
    return tuple(notes)
