"""All strategies on all splits of any packed data set, and what came out. The catalogue isn't needed for it."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from pannslib import files, metrics, models, progress, training
from pannslib.catalogue import TransferSettings
from pannslib.datasets import PackedClips
from pannslib.datasets.samplers import ShuffledSampler
from pannslib.errors import CheckpointError, ResultError
from pannslib.profiles import Optimisation
from pannslib.transfer.pretrained import Pretrained, content_of, embeddings
from pannslib.transfer.splits import Clips, Split
from pannslib.transfer.strategies import STRATEGIES, Scale, classifier

BOOTSTRAP_DRAWS = 1000  # of clips, where there is one split


# --- metrics ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """How a task is scored: ``of`` (targets bool (clips, classes), scores (clips, classes)) -> a number in [0, 1].

    ``chance`` is the score of a guess, of the targets.
    """

    name: str
    title: str
    of: Callable[[np.ndarray, np.ndarray], float]
    chance: Callable[[np.ndarray], float]


def _accuracy(targets: np.ndarray, scores: np.ndarray) -> float:
    return metrics.accuracy(targets.argmax(1), scores.argmax(1))


def _map_at_3(targets: np.ndarray, scores: np.ndarray) -> float:
    return metrics.mean_average_precision_at_3(targets.argmax(1), scores)


def _map(targets: np.ndarray, scores: np.ndarray) -> float:
    return float(metrics.evaluate(targets, scores)["map"])


def _chance_at_3(targets: np.ndarray) -> float:
    # each of the first three places holds the right class once in as many times as there are classes
    classes = targets.shape[1]
    return sum(1 / rank for rank in range(1, min(3, classes) + 1)) / classes


METRICS = {
    "accuracy": Metric("accuracy", "Accuracy", _accuracy, lambda targets: 1 / targets.shape[1]),
    "map_at_3": Metric("map_at_3", "mAP@3", _map_at_3, _chance_at_3),
    "map": Metric("map", "mAP", _map, lambda targets: float(targets.mean())),
}


def metric_for(clips: Clips, name: str | None = None) -> Metric:
    """The metric of that name; accuracy where every clip has one class and mAP where not, if none is named."""
    return METRICS[name or ("accuracy" if clips.single_label else "map")]


# --- results ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TransferResult:
    """The predictions of all strategies on all test clips.

    Attributes:
        folder: of the results.
        clips: what was tested and learnt from.
        splits: the divisions, in order.
        metric: how they are scored.
        units: (strategy, name of the split) -> clips int64 (n,) and their probabilities float32 (n, classes).
        notes: sentences about the splits.
        evidence: "reproduced", "partial" or "miniature"; what the packed data say where nobody knows better.
    """

    folder: Path
    clips: Clips
    splits: list[Split]
    metric: Metric
    units: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
    notes: tuple[str, ...] = ()
    evidence: str = "partial"

    @property
    def classes(self) -> tuple[str, ...]:
        """Display names; labels are indices into them."""
        return self.clips.classes

    @property
    def strategies(self) -> list[str]:
        """Those that were run, in the paper's order."""
        return list(dict.fromkeys(strategy for strategy, _ in self.units))

    @property
    def chance(self) -> float:
        """The score of a guess."""
        return self.metric.chance(self.clips.targets)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """A row a strategy and test clip.

        Columns: strategy, fold (the split's name), clip, group, label, predicted (indices of classes) and
        probability, that of the class predicted. Where clips have several labels, label is a tuple.
        """
        parts = []
        for (strategy, name), (clips, scores) in self.units.items():
            best = scores.argmax(1)
            single = self.clips.single_label
            labels = [tuple(np.flatnonzero(self.clips.targets[clip]).tolist()) for clip in clips]
            parts.append(
                pd.DataFrame(
                    {
                        "strategy": strategy,
                        "fold": name,
                        "clip": [self.clips.names[clip] for clip in clips],
                        "group": self.clips.groups[clips],
                        "label": [label[0] for label in labels] if single else labels,
                        "predicted": best,
                        "probability": scores[np.arange(len(clips)), best].round(6),
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)

    def tested(self, strategy: str) -> tuple[np.ndarray, np.ndarray]:
        """All test clips of a strategy, int64 (n,), and their probabilities (n, classes), over all splits."""
        parts = [self.units[strategy, split.name] for split in self.splits]
        return np.concatenate([clips for clips, _ in parts]), np.concatenate([scores for _, scores in parts])

    def folds(self) -> pd.DataFrame:
        """The metric on each split: a row a strategy and split, with its number of test clips."""
        rows = [
            {
                "strategy": strategy,
                "fold": name,
                "value": self.metric.of(self.clips.targets[clips], scores),
                "test_clips": len(clips),
            }
            for (strategy, name), (clips, scores) in self.units.items()
        ]
        return pd.DataFrame(rows)

    def summary(self) -> pd.DataFrame:
        """A row a strategy: the mean over the folds with its 95 % interval.

        The interval is a bootstrap over the folds; over the test clips where there is one split.
        """
        rows = []
        for strategy, part in self.folds().groupby("strategy", sort=False):
            mean, low, high = metrics.mean_interval(part["value"])
            if len(part) == 1:
                low, high = metrics.interval(self._clip_draws(strategy))
            rows.append({"strategy": strategy, "value": mean, "low": low, "high": high, "folds": len(part)})
        return pd.DataFrame(rows)

    def _clip_draws(self, strategy: str) -> np.ndarray:
        """The metric of as many test clips drawn with replacement, (draws,); the same clips for every strategy."""
        clips, scores = self.tested(strategy)
        targets = self.clips.targets[clips]
        if self.metric.name == "map":
            return metrics.bootstrap(targets, scores, draws=BOOTSTRAP_DRAWS)["map"]
        # the other metrics are means of a number a clip
        values = np.array([self.metric.of(targets[[i]], scores[[i]]) for i in range(len(clips))])
        drawn = np.random.default_rng(0).integers(0, len(values), (BOOTSTRAP_DRAWS, len(values)))
        return values[drawn].mean(1)

    def best(self) -> str:
        """The strategy of the highest mean (to be looked at, not to be reported as chosen beforehand)."""
        summary = self.summary()
        return str(summary.loc[summary["value"].idxmax(), "strategy"])

    def confusion(self, strategy: str) -> pd.DataFrame:
        """Clips of each class (rows) by predicted class (columns), over all splits; clips of one class alone."""
        clips, scores = self.tested(strategy)
        counts = metrics.confusion(self.clips.label[clips], scores.argmax(1), len(self.classes))
        return pd.DataFrame(counts, index=pd.Index(self.classes, name="class"), columns=list(self.classes))

    def per_class(self) -> pd.DataFrame:
        """A row a class: its test clips and, a column a strategy, the share of them that is recognised.

        Where clips have several labels the columns are average precisions.
        """
        table = {}
        for strategy in self.strategies:
            clips, scores = self.tested(strategy)
            targets = self.clips.targets[clips]
            if self.clips.single_label:
                counts = self.confusion(strategy).to_numpy()
                with np.errstate(invalid="ignore"):
                    table[strategy] = np.diag(counts) / counts.sum(1)
            else:
                table[strategy] = metrics.average_precision(targets, scores)
        frame = pd.DataFrame({"class": self.classes, "test clips": targets.sum(0)})
        return frame.assign(**table)

    def mistakes(self, strategy: str, most: int = 10) -> pd.DataFrame:
        """The test clips that a strategy is surest and wrong about, worst first.

        Columns: clip, label (true classes), predicted, probability (of the class predicted), true_probability (of
        the likeliest true class), fold.
        """
        frame = self.predictions[self.predictions["strategy"] == strategy].reset_index(drop=True)
        clips, scores = self.tested(strategy)
        targets = self.clips.targets[clips]
        wrong = ~targets[np.arange(len(clips)), scores.argmax(1)]
        truth = np.where(targets, scores, -np.inf).max(1)
        shown = pd.DataFrame(
            {
                "clip": frame["clip"],
                "label": [", ".join(self.classes[i] for i in np.flatnonzero(row)) for row in targets],
                "predicted": [self.classes[index] for index in frame["predicted"]],
                "probability": frame["probability"],
                "true_probability": np.where(np.isfinite(truth), truth, np.nan).round(6),
                "fold": frame["fold"],
            }
        )
        return shown[wrong].sort_values("probability", ascending=False, kind="stable").head(most).reset_index(drop=True)


# --- the work --------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Bench:
    """What all units of an experiment share: the clips as a network's input, their embeddings, the settings."""

    packed: PackedClips
    pretrained: Pretrained
    settings: TransferSettings
    clips: Clips = field(init=False)

    def __post_init__(self):
        self.clips = Clips.of(self.packed)

    def seed(self, *parts) -> int:
        """A seed of its own for the part of the work that ``parts`` name, from the settings' seed."""
        return zlib.crc32("/".join(str(part) for part in (self.settings.seed, "transfer", *parts)).encode())

    @cached_property
    def _source(self):
        """All clips as the input of the whole network, and that network."""
        fabric = training.make_fabric(self.settings, self.seed("embeddings"))
        network = self.pretrained.network(len(self.clips.classes)).to(fabric.device)
        return training.ClipSource(self.packed, network, self.settings.cache_gib, fabric.device), network

    @cached_property
    def embeddings(self) -> np.ndarray:
        """Of every row, float32 (rows, embedding size), by the pretrained network as it is."""

        def compute() -> np.ndarray:
            source, network = self._source
            rows = np.arange(len(self.packed.names))
            return training.predict(network, source.batch, rows, lambda output: output.embedding)

        return embeddings(self.packed, self.pretrained, compute)

    def loss(self, output, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of one class a clip; where clips have several labels, binary cross-entropy (equation 1)."""
        logits = training.logits_of(output).float()
        if self.clips.single_label:
            return F.cross_entropy(logits, targets)
        return F.binary_cross_entropy_with_logits(logits, targets)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Softmax of logits (rows, classes); where clips have several labels, their sigmoid."""
        values = torch.from_numpy(logits).double()
        return (values.softmax(1) if self.clips.single_label else values.sigmoid()).numpy()

    def train(
        self, strategy: str, rows: np.ndarray, optimisation: Optimisation, parts: Sequence, bar=None
    ) -> "Trained":
        """Train one strategy on the training rows (n,); ``parts`` name the unit, for its seeds."""
        kind, classes = STRATEGIES[strategy], len(self.clips.classes)
        parts = (strategy, *parts)
        scale = None
        if kind.frozen:
            # computed before the seed is set, so that it is all the same whether they were kept
            scale = Scale.of(self.embeddings[rows])
        else:
            source = self._source[0]
        fabric = training.make_fabric(self.settings, self.seed(*parts))
        if kind.frozen:
            inputs = torch.from_numpy(scale(self.embeddings)).to(fabric.device)
            network = classifier(inputs.shape[1], classes, kind.layers)

            def batch(indices: np.ndarray) -> dict[str, torch.Tensor]:
                return {"input": inputs[torch.from_numpy(indices).to(fabric.device)]}
        else:
            batch = source.batch
            network = self.pretrained.network(classes) if kind.pretrained else self.pretrained.new_network(classes)
            network.scale_dropout(self.settings.dropout)
        model, optimizer = training.set_up(fabric, network, optimisation)
        sampler = ShuffledSampler(rows, self.seed(*parts, "sampler"))
        state = training.State(model, optimizer, sampler, np.random.default_rng(self.seed(*parts, "mixup")))
        targets = torch.from_numpy(self.packed.targets.astype(np.float32)).to(fabric.device)
        training.fit(fabric, state, batch, targets, optimisation, self.loss, self.packed.names, bar=bar)
        return Trained(self, network, model, batch, scale)


@dataclass(frozen=True, eq=False)
class Trained:
    """One strategy, trained: `network` is what `model` is without Lightning Fabric around it."""

    bench: Bench
    network: torch.nn.Module
    model: torch.nn.Module
    batch: Callable
    scale: Scale | None

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The clips (n,) of some rows and their probabilities, float32 (n, classes), the mean over each's segments."""
        logits = training.predict(self.model, self.batch, rows)
        return self.bench.clips.mean(rows, self.bench.probabilities(logits))


def open_units(folder: Path, inputs: dict, pattern: str) -> Path:
    """A folder of finished units, without those that were made from other inputs."""
    folder = Path(folder)
    recorded = folder / "inputs.json"
    if not recorded.is_file() or files.read_json(recorded) != inputs:
        for unit in folder.glob(pattern):
            unit.unlink()
        files.write_json(recorded, inputs)
    return folder


def inputs_of(bench: Bench, splits: list[Split]) -> dict:
    """All that the units depend on besides their own names, as JSON."""
    targets = files.digest(bench.packed.targets.astype(int).tolist())
    return {
        "content": content_of(bench.packed),
        "targets": targets,
        "splits": files.digest([split.record() for split in splits]),
        "pretrained": bench.pretrained.record() | {"origin": None},
        "settings": bench.settings.model_dump(exclude={"few_shot", "folds"}),
    }


def experiment(
    packed: PackedClips,
    splits: list[Split],
    strategies: Sequence[str],
    pretrained: Pretrained,
    settings: TransferSettings,
    folder: str | Path,
    metric: str | None = None,
    notes: Sequence[str] = (),
    title: str = "transfer",
) -> TransferResult:
    """Train and test strategies on all splits of a packed data set, or read what is finished of it.

    Each strategy and split is written as soon as it is done, so that a stopped experiment goes on from there, with
    the results that an uninterrupted one has.

    Args:
        splits: of `splits_of`, or your own.
        strategies: names of `STRATEGIES`.
        pretrained: the weights to start from; training from scratch uses the same architecture.
        settings: of the machine, and an optimisation for each strategy.
        folder: of the results, a file a strategy and split in its ``predictions``.
        metric: name of `METRICS`; accuracy, or mAP where clips have several labels, if it isn't given.
        notes: sentences to keep with the result.
        title: of the progress bar.
    """
    unknown = [name for name in strategies if name not in STRATEGIES]
    if unknown:
        raise ResultError(f"There is no strategy {unknown[0]!r}; there are {', '.join(STRATEGIES)}.")
    bench = Bench(packed, pretrained, settings)
    path = open_units(Path(folder) / "predictions", inputs_of(bench, splits), "*.npz")
    work = [(strategy, split) for split in splits for strategy in strategies]
    todo = [unit for unit in work if not _unit_file(path, *unit).is_file()]
    if todo:
        steps = {name: getattr(settings, name).iterations for name in strategies}
        total, left = (sum(steps[strategy] for strategy, _ in units) for units in (work, todo))
        bar = progress.bar(total, title, initial=total - left)
        for strategy, split in todo:
            bar.set_description(f"{STRATEGIES[strategy].title}, test {split.name}")
            trained = bench.train(strategy, split.training, getattr(settings, strategy), (split.name,), bar)
            clips, scores = trained.predict(split.test)
            with files.replacing(_unit_file(path, strategy, split)) as temporary:
                np.savez(temporary, clips=clips, scores=scores)
        bar.close()
    units = {(strategy, split.name): _read_unit(_unit_file(path, strategy, split)) for strategy, split in work}
    order = {name: position for position, name in enumerate(STRATEGIES)}
    units = dict(sorted(units.items(), key=lambda item: order[item[0][0]]))
    evidence = {"real": "reproduced"}.get(packed.evidence, packed.evidence)
    return TransferResult(
        Path(folder), bench.clips, list(splits), metric_for(bench.clips, metric), units, tuple(notes), evidence
    )


def _unit_file(folder: Path, strategy: str, split: Split) -> Path:
    return folder / f"{strategy}_{split.name}.npz"


def _read_unit(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as content:
        return content["clips"], content["scores"]


# --- a model to keep -------------------------------------------------------------------------------------------


def final_model(
    packed: PackedClips, strategy: str, pretrained: Pretrained, settings: TransferSettings, path: str | Path
) -> Path:
    """Train a strategy on all clips and write it as a checkpoint that `AudioTagger` loads.

    Its classes are in the file, and as ``activation`` whether one of them is right ("softmax") or several may be
    ("sigmoid"). The one layer of *freeze, L1* becomes the classifier of the pretrained network.

    Raises:
        CheckpointError: *freeze, L3*, or a network whose classifier isn't one layer on the embedding: its layers
            are no network of this package.
    """
    bench, kind = Bench(packed, pretrained, settings), STRATEGIES[strategy]
    classes = len(bench.clips.classes)
    if kind.frozen:
        network = pretrained.network(classes)
        head = getattr(network, network.classifier, None)
        if kind.layers != 1 or not isinstance(head, torch.nn.Linear):
            raise CheckpointError(
                f"{kind.title} on {pretrained.architecture} can't be kept as one network. Keep fine_tune, scratch or "
                "freeze_l1 of an architecture such as Cnn14."
            )
    trained = bench.train(strategy, np.arange(len(packed.names)), getattr(settings, strategy), ("all",))
    if kind.frozen:
        layer = trained.network[0]
        # what scales the embeddings goes into the layer's weights
        scale = [torch.from_numpy(part.astype(np.float32)) for part in (trained.scale.mean, trained.scale.deviation)]
        weight = layer.weight.detach().cpu() / scale[1]
        with torch.no_grad():
            head.weight.copy_(weight)
            head.bias.copy_(layer.bias.detach().cpu() - weight @ scale[0])
    else:
        network = trained.network
    activation = "softmax" if bench.clips.single_label else "sigmoid"
    return models.save_checkpoint(network, path, labels=list(bench.clips.classes), activation=activation)
