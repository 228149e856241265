"""Your own data: from a folder of sound files and a CSV to results, and to a model that tags.

    plan = own_data.plan("recordings", "clips.csv", profile="demo", output="results")
    plan.examined.checks                            # what was found, in plain words
    result = own_data.run(plan, ["fine_tune", "freeze_l1"])
    curve = own_data.run_few_shot(plan, result, [1, 2, 5, 10])
    model = own_data.save_model(plan, "fine_tune")  # for AudioTagger

What is measured, and how, is that of the paper's transfer tasks (section V): this module only brings the data to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from pannslib import audio, catalogue, datasets, files, paths, profiles
from pannslib.datasets import own
from pannslib.errors import AudioError, DataError, ResultError
from pannslib.results import open_run

JOB = TASK = "own_data"  # as the job is called in the catalogue, and the data in `datasets.TASKS`
SHORTEST, LONGEST = 1.0, 10.0  # seconds that clips are cut or padded to, where that isn't said
SHARE = 0.95  # of the clips that are not to be cut, where their length isn't said
PASSES = 1  # over all clips, at least, where the iterations aren't said
MEASURED = 1000  # clips whose length is looked at


@dataclass(frozen=True)
class OwnPlan(catalogue.Plan):
    """A plan whose data set `TASK` is one's own.

    Attributes:
        examined: what was found in the folder and its table.
        output: folder of the tables, figures and the model; None for that of the profile.
    """

    examined: own.Examined | None = None
    output: Path | None = None
    given: bool = False  # whether a folder was given, so that it isn't what the plan would find by itself

    @property
    def figures(self) -> Path:
        """The folder of this plan's tables and figures."""
        return self.output or super().figures

    def real(self, task: str) -> Path | None:
        """As of every plan; the folder that was given for one's own data."""
        return self.examined.dataset.root if task == TASK and self.given else super().real(task)

    def dataset(self, task: str) -> datasets.Dataset:
        """As of every plan; what was found in the folder for one's own data."""
        return self.examined.dataset if task == TASK else super().dataset(task)

    def packed(self, task: str, progress: bool = False) -> datasets.PackedClips:
        """As of every plan; one's own data have a file for each folder and length."""
        if task != TASK or not self.given:
            return super().packed(task, progress)
        settings, found = self.settings(JOB), self.dataset(TASK)
        name = files.digest([str(found.root.resolve()), settings.seconds, settings.segments])
        path = paths.packed(self.profile.name) / f"{TASK}_{name}.h5"
        return datasets.pack(
            found,
            path,
            sample_rate=catalogue.SAMPLE_RATE,
            seconds=settings.seconds,
            progress=progress,
            segments=settings.segments,
        )


def plan(
    folder: str | Path = "",
    csv: str | Path = "",
    checkpoint: str | Path = "",
    profile: str | Path = "demo",
    output: str | Path = "",
    folds: int = own.FOLDS,
    seconds: float = 0.0,
    iterations: int = 0,
    segments: bool = False,
    data_root: str | Path = "",
    threads: int = 0,
) -> OwnPlan:
    """Check the data and the settings, and say what is to be done.

    Args:
        folder: of the sound files; "" for the data root's raw/own_data or, where that isn't there, an example of spoken
            digits that is made.
        csv: the table, see `datasets.own`; "" for the one CSV in the folder.
        checkpoint: the pretrained weights; "" for those of the profile's own run, "released" for the authors'.
        profile: sizes of everything that isn't given here.
        output: folder of tables, figures and the model; "" for the profile's.
        folds: how many are made where the table has none.
        seconds: that clips are cut or padded to; 0 for what most of them fit in, from 1 to 10 s.
        iterations: optimiser steps of each whole network; 0 for the profile's, or more if the clips are many.
        segments: longer clips become several, whose predictions are averaged, instead of being cut.
        data_root: as of `catalogue.plan`.
        threads: that are computed with; 0 for the profile's. More than the idle cores make it much slower.

    Raises:
        DataError, ProfileError: what is wrong with the data or the settings.
    """
    base = catalogue.plan(profile, data_root)
    given = bool(str(folder))
    root = Path(folder).expanduser() if given else base.dataset(TASK).root
    found = own.examine(root, csv or None, folds)
    changes: dict = {}
    if seconds:
        changes["seconds"] = float(seconds)
    elif given:
        changes["seconds"] = usual_seconds(found.dataset)
    if given:
        changes["few_shot"] = base.profile.transfer.few_shot.model_dump()
        changes["folds"] = None  # all are tested: the profile's number is for the example
    if segments:
        changes["segments"] = True
    if threads:
        changes["threads"] = threads
    if checkpoint:
        path = Path(checkpoint).expanduser()
        changes["pretrained"] = str(checkpoint) if str(checkpoint) == "released" else str(path.resolve())
    for strategy in ("scratch", "fine_tune"):
        optimisation = getattr(base.profile.transfer, strategy)
        least = math.ceil(PASSES * len(found.dataset.clips) / optimisation.batch_size)
        steps = iterations or (max(optimisation.iterations, least) if given else 0)
        if steps:
            changes[strategy] = {"iterations": int(steps)}
    runs = dict(base.profile.runs)
    if changes:
        runs[JOB] = profiles.merge(runs.get(JOB, {}), changes)
    made = OwnPlan(
        **{field.name: getattr(base, field.name) for field in fields(base)} | {
            "profile": base.profile.model_copy(update={"runs": runs}),
            "examined": found,
            "output": Path(output).expanduser().resolve() if str(output) else None,
            "given": given or folds != own.FOLDS or bool(csv),
        }
    )  # fmt: skip
    made.settings(JOB)
    return made


def usual_seconds(dataset: datasets.Dataset) -> float:
    """The length, in halves of a second from 1 to 10, that all but a few clips fit in, from the headers of the files.

    Raises:
        DataError: no file can be read.
    """
    paths_ = dataset.clips["path"].tolist()
    lengths = []
    for path in paths_[:: max(1, len(paths_) // MEASURED)]:
        try:
            lengths.append(audio.info(dataset.root / path).seconds)
        except AudioError:
            continue  # packing rejects and lists it
    if not lengths:
        raise DataError(
            f"No file in {dataset.root} can be read as sound. The first is {paths_[0]}. Convert them to WAV."
        )
    return float(np.clip(math.ceil(2 * np.quantile(lengths, SHARE) - 1e-6) / 2, SHORTEST, LONGEST))


def run(plan: OwnPlan, strategies: Sequence[str] | str = ("scratch", "fine_tune", "freeze_l1")):
    """Train and test strategies on every fold, or read what is finished: a `transfer.TransferResult`.

    The metric is accuracy, and mean average precision where clips have several labels.

    Args:
        strategies: names of `transfer.STRATEGIES`, or a text with commas between them.

    Raises:
        ResultError: no strategy, or one that there isn't.
    """
    from pannslib import transfer

    strategies = _listed(strategies)
    if not strategies:
        raise ResultError(f"No strategy is named; give one at least of {', '.join(transfer.STRATEGIES)}.")
    folder, settings = open_run(plan, JOB), plan.settings(JOB)
    packed = plan.packed(TASK, progress=True)
    splits, notes = transfer.splits_of(packed, settings.folds)
    pretrained = transfer.pretrained_for(plan, JOB)
    before = sorted(folder.path.glob("predictions/*.npz"))
    title = plan.dataset(TASK).title
    made = transfer.experiment(packed, splits, strategies, pretrained, settings, folder.path, None, notes, title)
    evidence = evidence_of(plan)
    after = sorted(folder.path.glob("predictions/*.npz"))
    if after != before or not folder.file("provenance.json").is_file():
        record = folder.write_provenance(evidence, resumed=bool(before)) | {"pretrained": pretrained.record()}
        if settings.pretrained != "run":
            record["pretrained_on"] = None  # not on the plan's AudioSet: its origin says what is known
        files.write_json(folder.file("provenance.json"), record)
    return replace(made, evidence=evidence)


def _listed(value: Sequence | str) -> list:
    """A list, also of a text with commas, as it stands in a notebook's parameters."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else list(value)


def evidence_of(plan: OwnPlan) -> str:
    """Where the numbers come from: "miniature" for the example, else "computed": the paper has none on these data."""
    return "miniature" if plan.dataset(TASK).evidence == "miniature" else "computed"


def run_few_shot(plan: OwnPlan, whole, shots: Sequence[int] | str = (1, 2, 5, 10, 20, 50, 100)):
    """Train the strategies of `whole`, what `run` gave, on few clips a class: a `transfer.FewShotResult`.

    Points that the classes have no clips for are left out, and the result's notes say so.

    Args:
        shots: clips a class, or a text with commas between them.

    Raises:
        ResultError: shots that aren't whole numbers from 1.
    """
    from pannslib import transfer

    written = [str(point) for point in _listed(shots)]
    if not written or not all(point.isdecimal() and int(point) for point in written):
        raise ResultError(f"shots is {shots!r}; give clips a class, whole numbers from 1, such as 1, 2, 5, 10.")
    shots = [int(point) for point in written]
    settings = plan.settings(JOB)
    pretrained = transfer.pretrained_for(plan, JOB)
    title = f"{plan.dataset(TASK).title}, few clips"
    return transfer.few_shot(
        plan.packed(TASK), whole.splits, whole.strategies, pretrained, settings, whole.folder, shots, whole, title=title
    )


def save_model(plan: OwnPlan, strategy: str = "fine_tune") -> Path:
    """Train a strategy on all clips and write `own_data.safetensors`, with its labels, for `AudioTagger`.

    Raises:
        CheckpointError: a strategy that cannot be kept as one network.
    """
    from pannslib import transfer

    settings, packed = plan.settings(JOB), plan.packed(TASK)
    path = (plan.output or plan.runs / JOB) / f"{TASK}.safetensors"
    wanted = files.digest([plan.digest(JOB), strategy])
    made = path.with_suffix(".json")
    if path.is_file() and made.is_file() and files.read_json(made).get("made_from") == wanted:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    transfer.final_model(packed, strategy, transfer.pretrained_for(plan, JOB), settings, path)
    record = {"made_from": wanted, "strategy": strategy, "clips": len(packed.names), "classes": list(packed.classes)}
    files.write_json(made, record)
    return path
