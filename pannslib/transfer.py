"""Transfer to other tasks: section V of the paper.

A network that was pretrained on AudioSet is used for a new task in one of four ways (the rows of Tables XIII to
XVIII). In each the classifier is new and has one output a class:

- *scratch*: nothing is pretrained; the same network starts from random weights.
- *fine-tune*: all weights but the classifier's start from the pretrained ones, and all are trained.
- *freeze, L1*: the pretrained network only turns clips into embeddings; one fully connected layer is trained.
- *freeze, L3*: the same with three fully connected layers.

Every number of iterations is fixed beforehand. A test fold is used once, to predict it with the last weights:
neither a weight, nor a scale, nor a setting is chosen on it.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from pannslib import catalogue, features, files, metrics, models, progress, training
from pannslib.catalogue import PRETRAINING, Plan, TransferSettings
from pannslib.datasets import PackedClips
from pannslib.datasets.samplers import ShuffledSampler
from pannslib.results import RunFolder, evidence_of, open_run


@dataclass(frozen=True)
class Strategy:
    """One row of the paper's transfer tables."""

    title: str
    pretrained: bool  # start from the weights that AudioSet tagging left
    layers: int | None  # fully connected layers on the frozen embedding; None: the whole network is trained


# in the paper's order, with the names of the reference tables
STRATEGIES = {
    "scratch": Strategy("From scratch", pretrained=False, layers=None),
    "fine_tune": Strategy("Fine-tune", pretrained=True, layers=None),
    "freeze_l1": Strategy("Freeze, one layer", pretrained=True, layers=1),
    "freeze_l3": Strategy("Freeze, three layers", pretrained=True, layers=3),
}


@dataclass(frozen=True)
class TransferResult:
    """The predictions of all strategies on all test folds.

    Attributes:
        run: the folder of the results.
        classes: display names; labels are indices into them.
        predictions: a row a strategy and clip: strategy, fold, clip, group, label, predicted, probability.
        evidence: "reproduced", "partial" or "miniature".
    """

    run: RunFolder
    classes: tuple[str, ...]
    predictions: pd.DataFrame
    evidence: str

    def folds(self) -> pd.DataFrame:
        """Accuracy on each test fold: a row a strategy and fold, with its number of test clips."""
        rows = [
            {
                "strategy": strategy,
                "fold": fold,
                "accuracy": metrics.accuracy(part["label"], part["predicted"]),
                "test_clips": len(part),
            }
            for (strategy, fold), part in self.predictions.groupby(["strategy", "fold"], sort=False)
        ]
        return pd.DataFrame(rows)

    def summary(self) -> pd.DataFrame:
        """Mean accuracy over the folds with its 95 % bootstrap interval: a row a strategy."""
        rows = []
        for strategy, part in self.folds().groupby("strategy", sort=False):
            mean, low, high = metrics.mean_interval(part["accuracy"])
            rows.append({"strategy": strategy, "accuracy": mean, "low": low, "high": high, "folds": len(part)})
        return pd.DataFrame(rows)

    def best(self) -> str:
        """The strategy of the highest mean accuracy (to be looked at, not to be reported as chosen beforehand)."""
        summary = self.summary()
        return str(summary.loc[summary["accuracy"].idxmax(), "strategy"])

    def confusion(self, strategy: str) -> pd.DataFrame:
        """Clips of each class (rows) by predicted class (columns), over all test folds."""
        part = self.predictions[self.predictions["strategy"] == strategy]
        counts = metrics.confusion(part["label"], part["predicted"], len(self.classes))
        return pd.DataFrame(counts, index=pd.Index(self.classes, name="class"), columns=list(self.classes))


@dataclass(frozen=True)
class _Fold:
    """One test fold and what the network learns from: everything a unit of work needs."""

    plan: Plan
    task: str
    settings: TransferSettings
    packed: PackedClips
    fold: int

    @property
    def training_clips(self) -> np.ndarray:
        return np.flatnonzero(self.packed.folds != self.fold)

    @property
    def test_clips(self) -> np.ndarray:
        return np.flatnonzero(self.packed.folds == self.fold)

    def seed(self, strategy: str, part: str = "") -> int:
        return self.plan.seed("transfer", self.task, strategy, self.fold, part)


def run(plan: Plan, task: str) -> TransferResult:
    """Run, or read, all strategies on all folds of a task.

    Each strategy and fold is written as soon as it is done, so that a stopped run goes on from there. The
    pretrained network is that of the plan's pretraining run, which is trained first if it isn't there.
    """
    pretrained = training.run(plan, PRETRAINING)
    name = f"transfer_{task}"
    folder = open_run(plan, name)
    settings = plan.settings(name)
    packed = plan.packed(task, progress=True)
    plan.dataset(task).check_folds()
    folds = sorted(set(packed.folds.tolist()))[: settings.folds]
    work = [(strategy, fold) for fold in folds for strategy in STRATEGIES]
    todo = [unit for unit in work if not _predictions_file(folder, *unit).is_file()]
    if todo:
        # not before there is work: reading results needs no network
        network = _pretrained_network(plan, pretrained)
        fabric = training.make_fabric(settings, plan.seed(name))
        network.to(fabric.device)
        source = training.ClipSource(packed, network, settings.cache_gib, fabric.device)
        embeddings = training.predict(network, source.batch, np.arange(len(source)), lambda output: output.embedding)
        steps = {strategy: getattr(settings, strategy).iterations for strategy in STRATEGIES}
        total, left = (sum(steps[strategy] for strategy, _ in units) for units in (work, todo))
        bar = progress.bar(total, task, initial=total - left)
        for strategy, fold in todo:
            unit = _Fold(plan, task, settings, packed, fold)
            bar.set_description(f"{STRATEGIES[strategy].title}, fold {fold}")
            logits = _logits(unit, strategy, source, embeddings, pretrained, bar)
            frame = _predictions(unit, strategy, logits)
            files.write_text(_predictions_file(folder, strategy, fold), frame.to_csv(index=False))
        bar.close()
    evidence = evidence_of(plan, name)
    if todo or not folder.file("provenance.json").is_file():
        folder.write_provenance(evidence, resumed=len(todo) < len(work))
    parts = [pd.read_csv(_predictions_file(folder, s, f)) for s in STRATEGIES for f in folds]
    return TransferResult(folder, packed.classes, pd.concat(parts, ignore_index=True), evidence)


def _predictions_file(folder: RunFolder, strategy: str, fold: int):
    return folder.file("predictions", f"{strategy}_fold_{fold}.csv")


def _pretrained_network(plan: Plan, pretrained: training.TrainingResult, classes: int | None = None):
    """The pretrained network; with a new random classifier where ``classes`` is given."""
    settings = plan.settings(PRETRAINING)
    count = classes or len(pretrained.classes)
    network = models.create_model(settings.architecture, classes=count, width=settings.width)
    models.load_checkpoint(network, pretrained.checkpoint, head=classes is None)
    return network


def _logits(unit: _Fold, strategy: str, source, embeddings: np.ndarray, pretrained, bar) -> np.ndarray:
    """Train one strategy on one fold's training clips; logits (test clips, classes) of its test clips."""
    settings = unit.settings
    optimisation = getattr(settings, strategy)
    fabric = training.make_fabric(settings, unit.seed(strategy))
    classes = len(unit.packed.classes)
    if STRATEGIES[strategy].layers is not None:
        scaled = _standardised(embeddings, unit.training_clips)
        inputs = torch.from_numpy(scaled).to(fabric.device)
        network = _classifier(scaled.shape[1], classes, STRATEGIES[strategy].layers)

        def batch(indices: np.ndarray) -> dict[str, torch.Tensor]:
            return {"input": inputs[torch.from_numpy(indices).to(fabric.device)]}
    else:
        batch = source.batch
        if STRATEGIES[strategy].pretrained:
            network = _pretrained_network(unit.plan, pretrained, classes)
        else:
            network = models.create_model(settings.architecture, classes=classes, width=settings.width)
    model, optimizer = training.set_up(fabric, network, optimisation)
    sampler = ShuffledSampler(unit.training_clips, unit.seed(strategy, "sampler"))
    mixup = np.random.default_rng(unit.seed(strategy, "mixup"))
    state = training.State(model, optimizer, sampler, mixup)
    targets = torch.from_numpy(unit.packed.targets.astype(np.float32)).to(fabric.device)
    training.fit(
        fabric,
        state,
        batch,
        targets,
        optimisation,
        training.classification_loss,
        unit.packed.names,
        bar=bar,
    )
    return training.predict(model, batch, unit.test_clips)


def _standardised(embeddings: np.ndarray, training_clips: np.ndarray) -> np.ndarray:
    """Embeddings with mean 0 and deviation 1 over the training clips alone.

    The layer that follows is affine, so this changes what it can learn in nothing but speed.
    """
    mean, deviation = embeddings[training_clips].mean(0), embeddings[training_clips].std(0)
    return ((embeddings - mean) / np.maximum(deviation, 1e-6)).astype(np.float32)


class Classifier(torch.nn.Sequential):
    """Layers on frozen embeddings (batch, embedding size); in training they can be mixed as log-mels are."""

    def forward(self, input: torch.Tensor, mixup_lambda: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (batch, classes), or half as many rows where ``mixup_lambda`` (batch,) is given in training."""
        if mixup_lambda is not None and self.training:
            input = features.mixup(input, mixup_lambda)
        return super().forward(input)


def _classifier(inputs: int, classes: int, layers: int) -> Classifier:
    """``layers`` fully connected layers, as wide as the embedding, with ReLU between them."""
    widths = [inputs] * layers + [classes]
    modules: list[torch.nn.Module] = []
    for before, after in itertools.pairwise(widths):
        modules += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    return Classifier(*modules[:-1])


def _predictions(unit: _Fold, strategy: str, logits: np.ndarray) -> pd.DataFrame:
    """A row a test clip: what it is, what was predicted and how sure the network is."""
    test = unit.test_clips
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    predicted = logits.argmax(1)
    return pd.DataFrame(
        {
            "strategy": strategy,
            "fold": unit.fold,
            "clip": [unit.packed.names[index] for index in test],
            "group": [unit.packed.groups[index] for index in test],
            "label": unit.packed.label[test],
            "predicted": predicted,
            "probability": probabilities[np.arange(len(test)), predicted].round(6),
        }
    )


def published(task: str) -> pd.DataFrame:
    """The paper's table of a task: strategy, reference, metric, value (Tables XIII to XVIII)."""
    from pannslib import reference

    return reference.table(catalogue.TRANSFER_TASKS[task].table)
