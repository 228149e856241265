"""The catalogue's networks: train one on AudioSet (section VI-A of the paper), or read what was trained before."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pannslib import datasets, files, metrics, models, reference
from pannslib.audioset_runs import RUNS
from pannslib.catalogue import PRETRAINING, Plan, TrainingSettings
from pannslib.datasets import samplers
from pannslib.datasets.audioset import read_black_list
from pannslib.datasets.disk import told_of_full_disk
from pannslib.errors import DataError, ResultError
from pannslib.models import registry
from pannslib.results import RunFolder, evidence_of, open_run, read_run
from pannslib.training import devices, loop
from pannslib.training.sources import ClipSource

SPLITS = ("balanced_train", "eval")  # that are evaluated, as in Figure 4
NOTED = ("map", "mauc", "d_prime")  # of each evaluation
GUESSES = 50  # random systems that a network is set against, to see whether it has learnt anything
HARDLY = 3  # times the mAP of a guess: below this at the end a network has hardly learnt anything
SEED = PRETRAINING  # all runs begin with the same random numbers, so that rows of a table differ in what they say
COLLAPSE = 0.5  # of its best mAP: below this at the end a training has diverged


@dataclass(frozen=True)
class TrainingResult:
    """What an AudioSet run leaves.

    Attributes:
        run: its folder.
        settings: what it was trained with.
        summary: of the whole: chance, verdict, advice, clips_per_second, parameters, evidence, iterations, processes.
        curve: a row an evaluation and split: iteration, split ("balanced_train" or "eval"), map, mauc, d_prime.
        losses: a row every ten iterations and at the last: iteration, loss, learning_rate.
        classes: a row a class: index (AudioSet's), label, training_clips, evaluation_clips, ap, auc, d_prime (on eval).
    """

    run: RunFolder
    settings: TrainingSettings
    summary: dict
    curve: pd.DataFrame
    losses: pd.DataFrame
    classes: pd.DataFrame

    @property
    def title(self) -> str:
        """How the network is called in tables."""
        return RUNS[self.run.name].title

    @property
    def checkpoint(self) -> Path:
        """The final weights, as `models.load_checkpoint` takes them."""
        return self.run.file("checkpoint.safetensors")

    @property
    def chance(self) -> float:
        """The mAP of a system that guesses: the mean share of positives."""
        return self.summary["chance"]

    @property
    def verdict(self) -> str:
        """ "trained", "hardly trained" (little better than a guess), "at chance" (no better) or "diverged" (it was)."""
        return self.summary["verdict"]

    @property
    def advice(self) -> str:
        """What to do about it; empty where the network was trained."""
        return self.summary["advice"]

    @property
    def clips_per_second(self) -> float:
        """How fast it trained, evaluation aside; clips after mixup."""
        return self.summary["clips_per_second"]

    @property
    def parameters(self) -> int:
        """Of the network as it was trained."""
        return self.summary["parameters"]

    @property
    def map(self) -> float:
        """The final mAP on the evaluation clips."""
        return float(self.evaluations["map"].iloc[-1])

    @property
    def evaluations(self) -> pd.DataFrame:
        """The curve on the evaluation clips alone."""
        return self.curve[self.curve["split"] == "eval"].reset_index(drop=True)

    @cached_property
    def class_curves(self) -> pd.DataFrame:
        """AP of each class at each evaluation, on eval: iteration, index, label, ap."""
        wide = pd.read_csv(self.run.file("class_ap.csv"))
        aps = wide.drop(columns="iteration").to_numpy()
        count = len(self.classes)
        return pd.DataFrame(
            {
                "iteration": np.repeat(wide["iteration"].to_numpy(), count),
                "index": np.tile(self.classes["index"].to_numpy(), len(wide)),
                "label": np.tile(self.classes["label"].to_numpy(), len(wide)),
                "ap": aps.ravel(),
            }
        )

    @cached_property
    def _scores(self) -> dict:
        with np.load(self.run.file("scores.npz")) as content:
            return dict(content)

    @property
    def scores(self) -> np.ndarray:
        """Logits of the evaluation clips, float32 (clips, classes)."""
        return self._scores["scores"]

    @property
    def targets(self) -> np.ndarray:
        """Which evaluation clip has which class, bool (clips, classes)."""
        return self._scores["targets"]

    @property
    def clips(self) -> list[str]:
        """The names of the evaluation clips."""
        return self._scores["clips"].tolist()


def run(plan: Plan, name: str = PRETRAINING, watch=None) -> TrainingResult:
    """Train the network of a catalogue run on AudioSet (or Mini-AudioSet), or read what was trained before.

    A run that was stopped goes on from its last evaluation, or from where Ctrl-C stopped it. Under torchrun all
    processes train together and the first one writes.

    Args:
        plan: sizes and data.
        name: one of `audioset_runs.RUNS`.
        watch: called after each evaluation with the curve so far (a DataFrame), for a picture that grows.

    Raises:
        ResultError: the loss is no number; the state that it should go on from is damaged.
        DataError: the data changed while the run was trained.
        Stopped: Ctrl-C; the state is written.
    """
    if devices.world()[0] == 0:
        folder = open_run(plan, name)
    if devices.world()[1] > 1:  # the first process cleans and makes the folder, the others then find it
        fabric_of(plan, name)
        torch.distributed.barrier()
        folder = open_run(plan, name)
    if not _is_finished(folder):
        _Training(plan, name, folder, watch).train()
    return _read(folder, plan.settings(name))


def result(plan: Plan, name: str = PRETRAINING) -> TrainingResult:
    """Read a finished run; `ResultError` says how to train it where it isn't there."""
    folder = read_run(plan, name)
    if folder is None or not _is_finished(folder):
        raise ResultError(
            f"{name} has not been trained with these settings and data. Train it: panns train {name} --profile "
            f"{plan.profile.name}, or make reproduce."
        )
    return _read(folder, plan.settings(name))


def fabric_of(plan: Plan, name: str):
    """The Fabric that a run is trained with."""
    settings = plan.settings(name)
    unused = bool(registry.skeleton(settings.architecture).unused_parameters)
    return devices.make_fabric(settings, plan.seed(SEED), unused)


def _is_finished(folder: RunFolder) -> bool:
    return folder.file("summary.json").is_file() and folder.file("provenance.json").is_file()


def _read(folder: RunFolder, settings: TrainingSettings) -> TrainingResult:
    tables = [pd.read_csv(folder.file(f"{table}.csv")) for table in ("curve", "losses", "classes")]
    return TrainingResult(folder, settings, files.read_json(folder.file("summary.json")), *tables)


def training_rows(
    packed: datasets.PackedClips, settings: TrainingSettings, seed: int, black_list: Collection[str] = ()
) -> np.ndarray:
    """The clips that a run learns from, int64 (clips,): the chosen set, or a share of it drawn by ``seed``.

    A smaller share is a part of every larger one with the same seed. A class keeps a clip at least. Clips whose
    YouTube id is on the ``black_list`` are never among them.
    """
    splits = {"full": ("balanced_train", "unbalanced_train"), "balanced": ("balanced_train",)}
    rows = np.flatnonzero(np.isin(packed.splits, splits[settings.training_set]))
    if black_list:
        names = packed.names
        rows = rows[[names[row].partition(".")[0].removeprefix("Y") not in black_list for row in rows]]
    if not len(rows):
        raise DataError(
            f"{packed.path} has no clip of {' or '.join(splits[settings.training_set])}, so there is nothing to learn "
            "from. Get that part of AudioSet (panns download audioset), or choose another training_set."
        )
    if settings.share == 1:
        return rows
    order = np.random.default_rng(seed).permutation(rows)
    kept = order[: max(1, round(settings.share * len(rows)))]
    lost = packed.targets[rows].any(0) & ~packed.targets[kept].any(0)
    firsts = [order[packed.targets[order, column].argmax()] for column in np.flatnonzero(lost)]
    return np.unique(np.concatenate([kept, np.array(firsts, np.int64)]))


def class_indices(labels: tuple[str, ...]) -> list[int]:
    """AudioSet's numbers of classes by their display names; positions, for classes that aren't AudioSet's."""
    official = reference.class_labels().set_index("display_name")["index"]
    known = set(labels) <= set(official.index)
    return [int(official[label]) for label in labels] if known else list(range(len(labels)))


class _Training:
    """A run while it is trained."""

    def __init__(self, plan: Plan, name: str, folder: RunFolder, watch):
        self.plan, self.name, self.folder, self.watch = plan, name, folder, watch
        self.settings = settings = plan.settings(name)
        devices.check_batch(settings.optimisation, name)
        self.rank, self.world = devices.world()
        self.packed = packed = plan.packed("audioset", progress=self.rank == 0)
        self.fabric = fabric_of(plan, name)
        self.network = models.create_model(
            settings.architecture,
            classes=len(packed.classes),
            width=settings.width,
            **settings.front_end.model_dump(exclude_none=True),
        ).scale_dropout(settings.dropout)
        black_list = read_black_list(plan.dataset("audioset").root)
        self.training = training_rows(packed, settings, plan.seed("audioset", "share"), black_list)
        if settings.compile:
            self.network.compile()
        self.evaluated = {split: np.flatnonzero(packed.splits == split) for split in SPLITS}
        if not len(self.evaluated["eval"]):
            raise DataError(
                f"{packed.path} has no evaluation clip. Get AudioSet's eval part (panns download audioset)."
            )
        model, optimizer = devices.set_up(self.fabric, self.network, settings.optimisation)
        self.source = ClipSource(packed, self.network, settings.cache_gib, self.fabric.device, settings.resampling)
        sampler = samplers.make_sampler(
            settings.sampling, packed, self.training, plan.seed(SEED, "sampler"), self.rank, self.world
        )
        mixup = np.random.default_rng(plan.seed(SEED, "mixup", *([self.rank] if self.rank else [])))
        self.state = loop.State(model, optimizer, sampler, mixup)
        if self.rank:  # every process drops out units of its own
            torch.manual_seed(plan.seed(SEED, "process", self.rank))
        self.checkpoint = folder.file("state.pt")
        self.board = None

    def train(self) -> None:
        """From where the run is to its end."""
        resumed = self.checkpoint.is_file()
        if self.rank == 0:
            self.sweep()
        if resumed:
            self.state.restore(self.checkpoint)
        targets = torch.from_numpy(self.packed.targets).to(self.fabric.device)
        if self.rank == 0:
            self.board = _board(self.folder, self.state.iteration)
        try:
            loop.fit(
                self.fabric,
                self.state,
                self.source.batch,
                targets,
                self.settings.optimisation,
                loop.tagging_loss,
                self.packed.names,
                self.evaluate,
                self.settings.evaluate_every,
                log=self.log,
                stop=self.stop,
            )
        finally:
            if self.board:
                self.board.close()
        self.finish(resumed)

    def sweep(self) -> None:
        """Remove what killed processes left of the states and weights that they were writing."""
        for name in ("state.pt", "checkpoint.safetensors", "stopped.safetensors"):
            files.sweep(self.folder.file(name))

    def log(self, iteration: int, numbers: dict) -> None:
        """Loss, rate and speed for TensorBoard."""
        if self.board:
            for key, value in numbers.items():
                self.board.add_scalar(f"training/{key}", value, iteration)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Logits float32 (rows, classes), computed by all processes together."""
        own = rows[self.rank :: self.world]
        with self.fabric.autocast():
            logits = loop.predict(self.network, self.source.batch, own)
        return devices.gather(logits, len(rows))

    def evaluate(self, state: loop.State) -> None:
        """Note the metrics on both splits, and write the state."""
        devices.agree(self.network)
        for split, rows in self.evaluated.items():
            if not len(rows):
                continue
            scores = metrics.evaluate(self.packed.targets[rows], self.scores(rows))
            state.curve.append({"iteration": state.iteration, "split": split, **{key: scores[key] for key in NOTED}})
            if split == "eval":
                state.class_ap.append([state.iteration, *scores["ap"].tolist()])
                state.class_auc.append([state.iteration, *scores["auc"].tolist()])
            if self.board:
                for key in NOTED:
                    self.board.add_scalar(f"{split}/{key}", scores[key], state.iteration)
        state.save(self.checkpoint)
        self.write_curves()
        if self.watch and self.rank == 0:
            self.watch(pd.DataFrame(state.curve))

    def stop(self, state: loop.State) -> None:
        """After Ctrl-C: write where the run is, and the weights as they are, which can be used."""
        devices.agree(self.network)
        state.save(self.checkpoint)
        self.write_curves()
        if self.rank == 0:
            self.save_weights(self.folder.file("stopped.safetensors"))

    def write_curves(self) -> None:
        """Curve and losses so far, for whoever looks at a run while it is trained."""
        if self.rank:
            return
        with told_of_full_disk(self.folder.path, loop.KEPT):
            for name, frame in {
                "curve": pd.DataFrame(self.state.curve, columns=["iteration", "split", *NOTED]),
                "losses": pd.DataFrame(self.state.losses, columns=["iteration", "loss", "learning_rate"]),
            }.items():
                files.write_text(self.folder.file(f"{name}.csv"), frame.to_csv(index=False))

    def save_weights(self, path: Path) -> None:
        """The network as `models.load_checkpoint` and `AudioTagger` take it, for all to read who may read the run."""
        with told_of_full_disk(path, loop.KEPT):
            models.save_checkpoint(self.network, path, labels=list(self.packed.classes))
            shutil.copymode(self.folder.file("inputs.json"), path)

    def finish(self, resumed: bool) -> None:
        """Write everything that stays, if the data are still those that the run began with."""
        with told_of_full_disk(self.folder.path, loop.KEPT):
            self._finish(resumed)

    def _finish(self, resumed: bool) -> None:
        devices.agree(self.network)
        rows = self.evaluated["eval"]
        logits = self.scores(rows)
        if self.rank:
            torch.distributed.barrier()
            return
        self.plan.check_unchanged("audioset")
        targets = self.packed.targets[rows]
        scores = metrics.evaluate(targets, logits)
        state, folder = self.state, self.folder
        self.save_weights(folder.file("checkpoint.safetensors"))
        with files.replacing(folder.file("scores.npz")) as temporary:
            np.savez(
                temporary,
                scores=logits.astype(np.float32),
                targets=targets,
                clips=np.array([self.packed.names[row] for row in rows]),
            )
        columns = class_indices(self.packed.classes)
        table = pd.DataFrame(
            {
                "index": columns,
                "label": self.packed.classes,
                "training_clips": self.packed.targets[self.training].sum(0),
                "evaluation_clips": targets.sum(0),
                "ap": scores["ap"],
                "auc": scores["auc"],
                "d_prime": metrics.d_prime(scores["auc"]),
            }
        )
        self.write_curves()
        for name, frame in {
            "classes": table,
            "class_ap": pd.DataFrame(state.class_ap, columns=["iteration", *columns]),
            "class_auc": pd.DataFrame(state.class_auc, columns=["iteration", *columns]),
        }.items():
            files.write_text(folder.file(f"{name}.csv"), frame.to_csv(index=False))
        evaluations = [row["map"] for row in state.curve if row["split"] == "eval"]
        verdict, advice = judge(targets, scores["map"], max(evaluations), state.losses)
        summary = {
            "verdict": verdict,
            "advice": advice,
            "chance": float(targets.mean()),
            "clips_per_second": round(state.iteration * self.settings.optimisation.batch_size / state.seconds, 1),
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "iterations": state.iteration,
            "training_clips": len(self.training),
            "processes": self.world,
        }
        folder.write_provenance(evidence_of(self.plan, self.name), resumed)
        files.write_json(folder.file("summary.json"), summary)
        self.checkpoint.unlink(missing_ok=True)  # the final weights are kept in checkpoint.safetensors
        folder.file("stopped.safetensors").unlink(missing_ok=True)
        if self.world > 1:
            torch.distributed.barrier()


def judge(targets: np.ndarray, final: float, best: float, losses: list[dict]) -> tuple[str, str]:
    """Whether a network has learnt anything, and what to do if not (the authors' issue 48: MobileNets at chance).

    Args:
        targets: bool (clips, classes) of the evaluation.
        final, best: the last and the highest mAP on them.
        losses: of the training.

    Returns:
        "trained", "hardly trained", "at chance" or "diverged", and advice for all but the first.
    """
    if final < COLLAPSE * best:
        return "diverged", (
            f"The mAP fell from {best:.3f} to {final:.3f}. Lower the learning rate, or use the one_cycle schedule."
        )
    generator = np.random.default_rng(0)
    guesses = [np.nanmean(metrics.average_precision(targets, generator.random(targets.shape))) for _ in range(GUESSES)]
    fell = f"; the loss went from {losses[0]['loss']:.3f} to {losses[-1]['loss']:.3f}" if len(losses) > 1 else ""
    if final <= max(guesses):
        return "at chance", (
            f"An mAP of {final:.3f} is what random scores give (up to {max(guesses):.3f} of {GUESSES}){fell}. Train "
            "longer, try a learning rate ten times lower or higher, and look at the data audit: levels, labels and "
            "sample rate."
        )
    chance = float(targets.mean())
    # where a third of the labels are set or more, three times that is no mAP
    if final < min(HARDLY * chance, (1 + chance) / 2):
        return "hardly trained", (
            f"An mAP of {final:.3f} is above random scores (up to {max(guesses):.3f} of {GUESSES}), but only "
            f"{final / chance:.1f} times a guess ({chance:.3f}){fell}. Train longer, or on more clips, before you "
            "compare it with others."
        )
    return "trained", ""


def _board(folder: RunFolder, iteration: int):
    """Where TensorBoard's files go; what a killed run wrote after ``iteration`` is not shown."""
    import logging
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder.path / "tensorboard"), purge_step=iteration + 1 if iteration else None)
