"""The experiments: which network learns which task from which weights, each trained once and then read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from pannslib import complexity, files, models, progress, training
from pannslib.catalogue import RETHINKING, TRANSFER_TASKS, Plan
from pannslib.datasets import PackedClips
from pannslib.datasets.samplers import ShuffledSampler
from pannslib.models.imagenet import NETWORKS, ImageNetModel, load_weights
from pannslib.profiles import DecayedOptimisation
from pannslib.results import evidence_of, open_run
from pannslib.rethinking.attribution import Attribution, integrated_gradients
from pannslib.rethinking.augmentation import Images
from pannslib.rethinking.similarity import change_of_layers
from pannslib.rethinking.weights import RANDOM, STAND_IN, Start, starts_of
from pannslib.transfer import METRICS, Clips, Split, splits_of

TASKS = {"esc50": "ESC-50", "urbansound8k": "UrbanSound8K", "gtzan": "GTZAN"}  # of the second paper
ANALYSED = "esc50"  # the task of the analyses
COMPARED_CLIPS = 200  # whose activations SVCCA compares, at most
SHOWN = 3  # clips whose attributions are drawn
# how the blocks of a network are looked at, up to and with each: name -> what is done
WAYS = {
    "freeze": "Frozen up to this block",
    "cut": "Cut off behind this block",
    "fuse": "Pretrained up to this block, random behind",
    "reset": "This block alone random",
}


@dataclass(frozen=True)
class Variant:
    """One way to train one network.

    Attributes:
        architecture: of the registry, such as "ResNet50" or "ResNet50_repeated".
        start: the weights to start from.
        augmented: whether there are altered copies of the training clips.
        way: one of `WAYS`, or "" for the whole network.
        block: the one that ``way`` is about.
    """

    architecture: str
    start: Start
    augmented: bool = False
    way: str = ""
    block: str = ""

    @property
    def key(self) -> str:
        """A name for files and seeds."""
        parts = [self.architecture, self.start.key, "augmented" if self.augmented else "", self.way, self.block]
        return "-".join(part for part in parts if part)


@dataclass(frozen=True)
class Unit:
    """One training: a variant on one split of a task, in one of the runs that differ by chance alone."""

    task: str
    variant: Variant
    split: Split
    run: int

    @property
    def key(self) -> str:
        return f"{self.task}-{self.variant.key}-{self.split.name}-{self.run}"


@dataclass(frozen=True, eq=False)
class Task:
    """A data set to learn: packed clips, what they are of, and how it is divided and scored."""

    name: str
    packed: PackedClips
    clips: Clips
    splits: list[Split]
    metric: str

    def score(self, clips: np.ndarray, scores: np.ndarray) -> float:
        """The task's metric of the probabilities (n, classes) of some clips (n,)."""
        return METRICS[self.metric].of(self.clips.targets[clips], scores)


class Study:
    """The second paper's experiments and analyses at the sizes of a plan.

    What is trained is kept in the plan's folder of runs, each training as soon as it is done: a stopped study goes on,
    and a finished one is read.
    """

    def __init__(self, plan: Plan):
        """Open the study of a plan.

        Raises:
            ModelError: torchvision isn't installed; it says how to install it.
        """
        models.imagenet.import_torchvision()
        self.plan = plan
        self.settings = plan.settings(RETHINKING)
        self.folder = open_run(plan, RETHINKING)
        self.studied: str = self.settings.studied
        self._tasks: dict[str, Task] = {}
        self._images: dict[tuple, Images] = {}

    # --- what there is -------------------------------------------------------------------------------------------

    @cached_property
    def starts(self) -> dict[str, tuple[Start, ...]]:
        """Network -> the weights that it starts from, pretrained ones first."""
        return {network: starts_of(self.plan, network) for network in NETWORKS}

    def task(self, name: str) -> Task:
        """A task by its name in `datasets.TASKS`."""
        if name not in self._tasks:
            packed = self.plan.packed(name, progress=True)
            splits, _ = splits_of(packed, self.settings.folds)
            metric = TRANSFER_TASKS[name].metric if name in TRANSFER_TASKS else "accuracy"
            self._tasks[name] = Task(name, packed, Clips.of(packed), splits, metric)
        return self._tasks[name]

    def origins(self) -> pd.DataFrame:
        """Which weights each network starts from: network, start, weights, width."""
        return pd.DataFrame(
            [
                {
                    "network": NETWORKS[network].title,
                    "start": start.title,
                    "weights": start.origin,
                    "width": start.width,
                }
                for network, starts in self.starts.items()
                for start in starts
            ]
        )

    # --- what is to be trained -----------------------------------------------------------------------------------

    def variants(self) -> list[Variant]:
        """The networks of the paper's table: each from each of its starts."""
        return [Variant(network, start) for network, starts in self.starts.items() for start in starts]

    def pretrained(self) -> Variant:
        """The studied network from its pretrained weights."""
        return Variant(self.studied, self.starts[self.studied][0])

    def changes(self) -> dict[str, Variant]:
        """What else the paper changes of the studied network: title -> variant."""
        base = self.pretrained()
        return {
            "three spectrograms": base,
            "one spectrogram, repeated": replace(base, architecture=f"{self.studied}_repeated"),
            "three spectrograms, augmented": replace(base, augmented=True),
        }

    def block_variants(self) -> list[Variant]:
        """The studied network, looked at block by block."""
        base = self.pretrained()
        names = list(NETWORKS[self.studied].blocks)
        # all frozen is a classifier on frozen features; nothing cut off, or all pretrained, is the whole network
        blocks = {"freeze": names, "cut": names[:-1], "fuse": names[:-1], "reset": names}
        return [replace(base, way=way, block=block) for way, some in blocks.items() for block in some]

    def units(self) -> list[Unit]:
        """All trainings, each once."""
        runs = range(self.settings.runs)
        wanted = [(task, variant, runs) for task in TASKS for variant in self.variants()]
        wanted += [(ANALYSED, variant, runs) for variant in self.changes().values()]
        wanted += [
            (task, Variant(network, start), range(1))
            for task in TRANSFER_TASKS
            for network in self.settings.compared
            for start in self.starts[network]
        ]
        units = [
            Unit(task, variant, split, run)
            for task, variant, runs in wanted
            for split in self.task(task).splits
            for run in runs
        ]
        first = self.task(ANALYSED).splits[0]
        units += [Unit(ANALYSED, variant, first, 0) for variant in self.block_variants()]
        return list({unit.key: unit for unit in units}.values())

    # --- training ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train all that isn't there yet."""
        units = self.units()
        todo = [unit for unit in units if not self._file(unit).is_file()]
        if todo:
            steps = self.settings.optimisation.iterations
            # made before, so that its own bar isn't inside of this one
            if any(unit.variant.start.kind == STAND_IN for unit in todo):
                self._stand_in()
            bar = progress.bar(steps * len(units), "ImageNet's networks", initial=steps * (len(units) - len(todo)))
            for unit in todo:
                bar.set_description(f"{TITLES_OF_TASKS.get(unit.task, unit.task)}, {unit.variant.architecture}")
                self._train(unit, bar)
            bar.close()
        if todo or not self.folder.file("provenance.json").is_file():
            record = self.folder.write_provenance(evidence_of(self.plan, RETHINKING), resumed=len(todo) < len(units))
            files.write_json(
                self.folder.file("provenance.json"), record | {"weights": self.origins().to_dict("records")}
            )

    def _file(self, unit: Unit) -> Path:
        return self.folder.file("predictions", f"{unit.key}.npz")

    def seed(self, *parts) -> int:
        return self.plan.seed(RETHINKING, *parts)

    def network(self, variant: Variant, classes: int) -> ImageNetModel:
        """A variant's network as it is before training, with a new random classifier; torch's generator is used."""
        front_end = {key: value for key, value in self.settings.front_end.model_dump().items() if value is not None}

        def create(start: Start) -> ImageNetModel:
            network = models.create_model(variant.architecture, classes=classes, width=start.width, **front_end)
            if start.kind == STAND_IN:
                models.load_checkpoint(network, self._stand_in(), head=False)
                network.weights = start.origin
            elif start.pretrained:
                load_weights(network, start.path)
            return network

        network = create(variant.start)
        if variant.way in ("fuse", "reset"):
            chance = create(Start(RANDOM, "", variant.start.width))
            position = network.block_names.index(variant.block)
            names = network.block_names[position + 1 :] if variant.way == "fuse" else [variant.block]
            for name in names:
                for layer, random in zip(network.layers(name), chance.layers(name), strict=True):
                    layer.load_state_dict(random.state_dict())
        elif variant.way == "freeze":
            network.freeze(variant.block)
        elif variant.way == "cut":
            network.cut(variant.block)
        return network

    def _set_up(self, seed: int, create, optimisation: DecayedOptimisation):
        """A Fabric, seeded, the network that ``create`` makes, and it with its Adam on the Fabric's device."""
        fabric = training.make_fabric(self.settings, seed)
        network = create().to(memory_format=torch.channels_last)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        rate, decay = optimisation.learning_rate, optimisation.weight_decay
        optimizer = torch.optim.Adam(trained, lr=rate, weight_decay=decay)
        model, optimizer = fabric.setup(network, optimizer)
        return fabric, network, model, optimizer

    def images(self, task: str, network: ImageNetModel, device: torch.device, augmented: bool = False) -> Images:
        """The log-mels of a task's clips for a network; those of equal front ends are shared."""
        key = (task, network.spectrograms, network.front_end, augmented, str(device))
        if key not in self._images:
            copies = self.settings.copies if augmented else 0
            seconds, cache = self.settings.seconds, self.settings.cache_gib
            packed = self.task(task).packed
            self._images[key] = Images(packed, network, device, cache, seconds, copies, self.seed(task, "copies"))
        return self._images[key]

    def _train(self, unit: Unit, bar) -> None:
        """Train one unit and write what it says of its test clips."""
        settings, task, seed = self.settings, self.task(unit.task), self.seed(unit.key)
        classes = len(task.clips.classes)
        fabric, network, model, optimizer = self._set_up(
            seed, lambda: self.network(unit.variant, classes), settings.optimisation
        )
        network.log_mel.to(fabric.device)
        images = self.images(unit.task, network, fabric.device, unit.variant.augmented)
        items = images.of(unit.split.training)
        sampler = ShuffledSampler(items, self.seed(unit.key, "sampler"))
        state = training.State(model, optimizer, sampler, np.random.default_rng(self.seed(unit.key, "mixup")))
        targets = torch.from_numpy(images.targets()).to(fabric.device)
        names = [name for _ in range(images.copies + 1) for name in task.packed.names]
        loss = training.classification_loss
        training.fit(fabric, state, images.batch, targets, settings.optimisation, loss, names, bar=bar)
        logits = torch.from_numpy(training.predict(model, images.batch, unit.split.test))
        clips, scores = task.clips.mean(unit.split.test, F.softmax(logits.double(), 1).numpy())
        if unit.key == self._kept.key:
            models.save_checkpoint(network, self._kept_path, labels=list(task.clips.classes))
        with files.replacing(self._file(unit)) as temporary:
            np.savez(temporary, clips=clips, scores=scores)

    def _stand_in(self) -> Path:
        """The studied network's weights after training on the plan's AudioSet, which take the place of ImageNet's.

        Like those they are of the network alone, whether its image is of three spectrograms or of one.
        """
        architecture = self.studied
        path = self.folder.file("stand_in.safetensors")
        if path.is_file():
            return path
        optimisation, packed = self.settings.stand_in, self.plan.packed("audioset", progress=True)
        start = Start(RANDOM, "random values", self.settings.width)
        classes, seed = len(packed.classes), self.seed("stand-in", architecture)
        fabric, network, model, optimizer = self._set_up(
            seed, lambda: self.network(Variant(architecture, start), classes), optimisation
        )
        network.log_mel.to(fabric.device)
        images = Images(packed, network, fabric.device, self.settings.cache_gib, self.settings.seconds)
        rows = np.flatnonzero(packed.splits != "eval")
        state = training.State(model, optimizer, ShuffledSampler(rows, seed), np.random.default_rng(seed))
        targets = torch.from_numpy(images.targets()).to(fabric.device)
        bar = progress.bar(optimisation.iterations, f"{architecture}, stand-in for ImageNet")
        loss = training.tagging_loss
        training.fit(fabric, state, images.batch, targets, optimisation, loss, packed.names, bar=bar)
        bar.close()
        return models.save_checkpoint(network, path, labels=list(packed.classes))

    # --- what came out -------------------------------------------------------------------------------------------

    def _read(self, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
        with np.load(self._file(unit), allow_pickle=False) as content:
            return content["clips"], content["scores"]

    def of_runs(self, task: str, variant: Variant, runs: int | None = None) -> tuple[np.ndarray, float]:
        """A variant's metric in each run, (runs,), and that of the runs' averaged probabilities.

        Each is the mean over the folds; over the clips of one split where there is one.
        """
        facts = self.task(task)
        single, together = [], []
        for split in facts.splits:
            read = [self._read(Unit(task, variant, split, run)) for run in range(runs or self.settings.runs)]
            single.append([facts.score(clips, scores) for clips, scores in read])
            together.append(facts.score(read[0][0], np.mean([scores for _, scores in read], axis=0)))
        return np.mean(single, axis=0), float(np.mean(together))

    def scores(self) -> pd.DataFrame:
        """The paper's table, ours: a row a network, data set and start.

        Columns: network (its title), task, start, weights, mean and std over the runs, ensemble, runs, folds, evidence.
        """
        rows = []
        for task in TASKS:
            for variant in self.variants():
                rows.append({"network": NETWORKS[variant.architecture].title, **self._row(task, variant)})
        return pd.DataFrame(rows)

    def compared(self) -> pd.DataFrame:
        """The studied network with one spectrogram or three, and with augmentation: a row each, as `scores`."""
        return pd.DataFrame(
            [{"input": title, **self._row(ANALYSED, variant)} for title, variant in self.changes().items()]
        )

    def _row(self, task: str, variant: Variant) -> dict:
        values, ensemble = self.of_runs(task, variant)
        return {
            "task": task,
            "start": variant.start.title,
            "weights": variant.start.origin,
            "mean": float(values.mean()),
            "std": float(values.std(ddof=1)) if len(values) > 1 else np.nan,
            "ensemble": ensemble,
            "runs": len(values),
            "folds": len(self.task(task).splits),
            "evidence": {"real": "reproduced"}.get(self.task(task).packed.evidence, self.task(task).packed.evidence),
        }

    def blocks(self) -> pd.DataFrame:
        """The studied network block by block: a row a way and block, with the accuracy on the first fold.

        Columns: way, title, block, accuracy. The rows of way "whole" are the untouched network from each start.
        """
        split = self.task(ANALYSED).splits[0]
        whole = [Variant(self.studied, start) for start in self.starts[self.studied]]
        rows = []
        for variant in [*whole, *self.block_variants()]:
            clips, scores = self._read(Unit(ANALYSED, variant, split, 0))
            rows.append(
                {
                    "way": variant.way or "whole",
                    "title": WAYS.get(variant.way, f"Whole network, {variant.start.title}"),
                    "block": variant.block,
                    "accuracy": self.task(ANALYSED).score(clips, scores),
                    "weights": variant.start.origin,
                }
            )
        return pd.DataFrame(rows)

    @property
    def _kept(self) -> Unit:
        """The training whose network is kept for the analyses."""
        return Unit(ANALYSED, self.pretrained(), self.task(ANALYSED).splits[0], 0)

    @property
    def _kept_path(self) -> Path:
        return self.folder.file("trained.safetensors")

    def trained(self) -> ImageNetModel:
        """The studied network after fine-tuning, in evaluation mode."""
        task = self.task(ANALYSED)
        with torch.random.fork_rng():
            network = self.network(self.pretrained(), len(task.clips.classes))
        return models.load_checkpoint(network, self._kept_path).eval()

    def change(self) -> pd.DataFrame:
        """SVCCA of every convolution of the studied network before and after fine-tuning, on clips of its task.

        Columns: layer, block, channels, points, svcca, chance.
        """
        path = self.folder.file("change.csv")
        if not path.is_file():
            task = self.task(ANALYSED)
            with torch.random.fork_rng():
                torch.manual_seed(self.seed("before"))
                before = self.network(self.pretrained(), len(task.clips.classes))
            after = self.trained()
            images = self.images(ANALYSED, after, torch.device("cpu"))
            clips = np.random.default_rng(self.seed("clips")).permutation(len(task.packed.names))[:COMPARED_CLIPS]
            frame = change_of_layers(before, after, images.batch, clips, self.settings.points, self.seed("points"))
            frame.insert(1, "block", [after.block_of(layer) for layer in frame["layer"]])
            files.write_text(path, frame.to_csv(index=False))
        return pd.read_csv(path)

    def attributions(self) -> list[dict]:
        """Integrated Gradients of some test clips that the fine-tuned network gets right (or, failing those, any).

        Returns:
            A record a clip, of different classes where there are: clip, label, probability, log_mel (frames, mel_bins)
            of the first spectrogram, attribution.
        """
        task, network = self.task(ANALYSED), self.trained()
        images = self.images(ANALYSED, network, torch.device("cpu"))
        test = task.splits[0].test
        probabilities = F.softmax(torch.from_numpy(training.predict(network, images.batch, test)), 1).numpy()
        label = task.packed.targets[test].argmax(1)
        truth = probabilities[np.arange(len(test)), label]
        right = probabilities.argmax(1) == label
        order = np.lexsort((-truth, ~right))  # those that are right first, the surest before the others
        chosen = list(dict.fromkeys(order[np.sort(np.unique(label[order], return_index=True)[1])].tolist()))[:SHOWN]
        records = []
        for index in chosen:
            log_mel = images.batch([test[index]])["log_mel"]
            records.append(
                {
                    "clip": task.packed.names[test[index]],
                    "label": task.clips.classes[label[index]],
                    "right": bool(right[index]),
                    "probability": float(truth[index]),
                    "log_mel": log_mel[0, 0].numpy(),
                    "attribution": integrated_gradients(network, log_mel, int(label[index])),
                }
            )
        return records

    def six_tasks(self) -> pd.DataFrame:
        """The six transfer tasks: PANNs and ImageNet's networks, fine-tuned and from scratch, with what they cost.

        The PANNs' numbers are those of the plan's transfer runs, on all their folds; ImageNet's networks are of one run
        on the folds of this study.

        Columns: task, metric, system, width, start, weights, value, folds, evidence, seconds, parameters, multi_adds,
        latency_ms.
        """
        from pannslib import transfer

        rows = []
        for name in TRANSFER_TASKS:
            task, panns = self.task(name), transfer.run(self.plan, name, strategies=("fine_tune", "scratch"))
            pretrained = transfer.pretrained_for(self.plan, f"transfer_{name}")
            cost = self._cost(pretrained.new_network(len(task.clips.classes)), task.packed.seconds)
            summary = panns.summary().set_index("strategy")
            # the same folds as the other networks are tested on
            folds = panns.folds()
            shared = folds[folds["fold"].isin([split.name for split in task.splits])]
            for strategy, start in (("fine_tune", pretrained.origin), ("scratch", "random values")):
                value = float(shared.loc[shared["strategy"] == strategy, "value"].mean())
                title = "AudioSet" if strategy == "fine_tune" else "random"
                count = min(int(summary.loc[strategy, "folds"]), len(task.splits))
                rows.append(self._task_row(task, pretrained.architecture, title, start, value, count, cost))
            for network in self.settings.compared:
                for start in self.starts[network]:
                    variant = Variant(network, start)
                    value = self.of_runs(name, variant, runs=1)[1]
                    cost = self._cost(self._unweighted(variant, task), self._seconds(task))
                    rows.append(self._task_row(task, network, start.title, start.origin, value, len(task.splits), cost))
        return pd.DataFrame(rows)

    def _unweighted(self, variant: Variant, task: Task) -> ImageNetModel:
        chance = replace(variant, start=Start(RANDOM, "", variant.start.width))
        with torch.random.fork_rng():
            return self.network(chance, len(task.clips.classes))

    def _seconds(self, task: Task) -> float:
        return min(self.settings.seconds or task.packed.seconds, task.packed.seconds)

    @cached_property
    def _costs(self) -> dict[tuple, dict]:
        return {}

    def _cost(self, network, seconds: float) -> dict:
        """Parameters, multi-adds and latency of a clip of ``seconds``; the latency of equal sizes is measured once."""
        count = complexity.count(network, seconds)
        key = (network.name, network.width, network.front_end, seconds)
        if key not in self._costs:
            self._costs[key] = complexity.latency(network, seconds, repeats=3)
        return {
            "width": network.width,
            "seconds": seconds,
            "parameters": count.parameters,
            "multi_adds": count.multi_adds,
            "latency_ms": 1000 * self._costs[key].seconds,
        }

    def _task_row(
        self, task: Task, system: str, start: str, weights: str, value: float, folds: int, cost: dict
    ) -> dict:
        return {
            "task": TRANSFER_TASKS[task.name].title,
            "metric": METRICS[task.metric].title,
            "system": system,
            "start": start,
            "weights": weights,
            "value": value,
            "folds": folds,
            "evidence": {"real": "reproduced"}.get(task.packed.evidence, task.packed.evidence),
            **cost,
        }


TITLES_OF_TASKS = TASKS | {name: facts.title for name, facts in TRANSFER_TASKS.items()}

__all__ = ["Attribution", "Study", "Task", "Unit", "Variant"]
