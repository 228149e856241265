"""The six tasks of the paper: the experiment and the few-shot curve of each, by the catalogue (section VI-D)."""

from dataclasses import replace

import pandas as pd

from pannslib import files, reference, training
from pannslib.catalogue import TRANSFER_TASKS, Plan
from pannslib.errors import ResultError
from pannslib.results import evidence_of, open_run
from pannslib.transfer.experiment import TransferResult, experiment
from pannslib.transfer.few_shot import FewShotResult, few_shot
from pannslib.transfer.pretrained import Pretrained
from pannslib.transfer.splits import splits_of
from pannslib.transfer.strategies import STRATEGIES


def run(plan: Plan, task: str, strategies: tuple[str, ...] = tuple(STRATEGIES)) -> TransferResult:
    """Run, or read, the strategies on all folds of a task, or on its given split.

    Each strategy and fold is written as soon as it is done, so that a stopped run goes on from there. Where the
    profile starts from the plan's own pretrained network, that is trained first if it isn't there.

    Raises:
        ResultError: no such task.
    """
    facts, name = TRANSFER_TASKS.get(task), f"transfer_{task}"
    if facts is None:
        raise ResultError(f"There is no transfer task {task!r}; there are {', '.join(TRANSFER_TASKS)}.")
    folder, settings = open_run(plan, name), plan.settings(name)
    packed = plan.packed(task, progress=True)
    splits, notes = splits_of(packed, settings.folds)
    pretrained = pretrained_for(plan, name)
    before = sorted(folder.path.glob("predictions/*.npz"))
    made = experiment(
        packed, splits, strategies, pretrained, settings, folder.path, facts.metric, notes, title=facts.title
    )
    evidence = evidence_of(plan, name)
    if evidence == "reproduced" and not pretrained.official:
        evidence = "partial"  # the paper's numbers rest on all of AudioSet, too
    after = sorted(folder.path.glob("predictions/*.npz"))
    if after != before or not folder.file("provenance.json").is_file():
        record = folder.write_provenance(evidence, resumed=bool(before)) | {"pretrained": pretrained.record()}
        if plan.settings(name).pretrained != "run":
            record["pretrained_on"] = None  # not on the plan's AudioSet: its origin says what is known
        files.write_json(folder.file("provenance.json"), record)
    return replace(made, evidence=evidence)


def run_few_shot(plan: Plan, task: str, whole: TransferResult) -> FewShotResult:
    """Run, or read, the few-shot curve of a task at the paper's points (Figures 6 to 11).

    Args:
        whole: what `run` gave for it, the last point of each strategy.
    """
    settings = plan.settings(f"transfer_{task}")
    axis = published_axis(task)
    return few_shot(
        plan.packed(task),
        whole.splits,
        settings.few_shot.strategies,
        pretrained_for(plan, f"transfer_{task}"),
        settings,
        whole.folder,
        axis.loc[axis["is_all"] == 0, "training_clips_per_class"].tolist(),
        whole,
        TRANSFER_TASKS[task].metric,
        title=f"{TRANSFER_TASKS[task].title}, few clips",
    )


def pretrained_for(plan: Plan, name: str) -> Pretrained:
    """The weights that transfer job ``name`` starts from: ``transfer.pretrained`` of its profile.

    "run" is the plan's own AudioSet run of the task's architecture, "released" the authors' weights in the cache,
    everything else the path of a checkpoint.
    """
    settings = plan.settings(name)
    if settings.pretrained == "released":
        return Pretrained.released(settings.architecture)
    if settings.pretrained != "run":
        return Pretrained.from_path(settings.pretrained, settings.architecture)
    source = plan.pretraining(name)
    trained = training.run(plan, source)
    official = evidence_of(plan, source) == "reproduced"
    found = Pretrained.from_path(trained.checkpoint)
    return replace(found, origin=f"trained here, {trained.title} ({source})", official=official)


def published(task: str) -> pd.DataFrame:
    """The paper's table of a task: strategy, reference, metric, value (Tables XIII to XVIII)."""
    return reference.table(TRANSFER_TASKS[task].table)


def published_axis(task: str) -> pd.DataFrame:
    """The paper's few-shot axis of a task: training_clips_per_class and is_all, a row a tick (Figures 6 to 11)."""
    axes = pd.read_csv(reference.FOLDER / "figures" / "fig_06_11_few_shot_axes.csv")
    return axes[axes["figure"] == TRANSFER_TASKS[task].figure].reset_index(drop=True)
