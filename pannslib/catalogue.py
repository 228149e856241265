"""The catalogue: which notebook execution makes which table and figure, with which settings, from which data.

The Snakefile, the notebooks and the report all read it. A *job* is one execution of one notebook; several jobs
may execute the same notebook with other parameters. A *plan* is the catalogue at the sizes of one profile, on
the data of one data root.
"""

import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from filelock import FileLock
from pydantic import Field, ValidationError

from pannslib import __version__, datasets, files, imagenet_files, paths, profiles
from pannslib.audioset_runs import BASE, EVENTS, PAPER_ROWS, RUNS
from pannslib.errors import DataError, ProfileError
from pannslib.profiles import Optimisation, Profile, Settings


@dataclass(frozen=True)
class TransferTask:
    """What the paper says of one transfer task (section VI-D)."""

    title: str
    table: int  # number of its table in the paper
    figure: int  # of its few-shot curve
    metric: str  # "accuracy" or "map_at_3"
    protocol: str


@dataclass(frozen=True)
class Job:
    """One execution of one notebook."""

    name: str
    title: str
    notebook: str  # file in notebooks/, without .ipynb
    # "page" (nothing is trained), "benchmark" (a page that measures time), "training", "transfer" or "rethinking"
    kind: str
    makes: tuple[str, ...]  # tables and figures that it must leave in figures/<profile>/
    needs: tuple[str, ...] = ()  # jobs that must be finished before
    tasks: tuple[str, ...] = ()  # data sets that it reads
    parameters: dict = field(default_factory=dict)  # injected besides the profile and the data root


TRANSFER_TASKS = {
    "esc50": TransferTask("ESC-50", 13, 6, "accuracy", "5-fold cross-validation over the official folds"),
    "dcase2019_task1a": TransferTask(
        "DCASE 2019 Task 1A", 14, 7, "accuracy", "the development set's given split into training and test clips"
    ),
    "dcase2018_task2": TransferTask(
        "DCASE 2018 Task 2",
        15,
        8,
        "map_at_3",
        "the given split; longer clips in segments, at inference the mean over a clip's segments",
    ),
    "msos": TransferTask("MSoS", 16, 9, "accuracy", "trained on the development set, tested on the evaluation set"),
    "gtzan": TransferTask("GTZAN", 17, 10, "accuracy", "10-fold cross-validation, stratified over the genres"),
    "ravdess": TransferTask("RAVDESS", 18, 11, "accuracy", "4-fold cross-validation, no actor in two folds"),
}
PRETRAINING = BASE  # the network that transfer starts from, and the one that the notebooks use
RETHINKING = "rethinking"  # the job of the second paper
# the first of them is there without the extra that the others need
RETHINKING_MAKES = (
    *("rethinking_scores", "rethinking_spread", "rethinking_inputs", "rethinking_blocks", "rethinking_change"),
    *("rethinking_attributions", "rethinking_tasks"),
)
SAMPLE_RATE = 32_000  # Hz, at which all clips are packed (section VI-A)


def _transfer_job(task: str) -> Job:
    facts = TRANSFER_TASKS[task]
    return Job(
        name=f"transfer_{task}",
        title=f"Transfer to {facts.title}",
        notebook="10_transfer",
        kind="transfer",
        makes=(
            f"{task}_sounds",
            f"{task}_folds",
            f"{task}_confusion",
            f"{task}_classes",
            f"table_{facts.table}",
            f"figure_{facts.figure:02d}",
        ),
        needs=(PRETRAINING,),
        tasks=(task,),
        parameters={"task": task},
    )


def _training_job(name: str) -> Job:
    return Job(
        name=name,
        title=f"Training: {RUNS[name].title}",
        notebook="05_training",
        kind="training",
        makes=(f"runs/{name}_curve", f"runs/{name}_classes"),
        tasks=("audioset",),
        parameters={"run": name},
    )


JOBS = {
    job.name: job
    for job in (
        Job(
            "data",
            "The data",
            "02_data",
            "page",
            ("data_sets", "clip_levels"),
            (),
            ("audioset", "esc50", "ravdess"),
        ),
        Job(
            "architectures",
            "The architectures, layer by layer",
            "03_architectures",
            "page",
            ("table_01", "table_02", "table_03", "figure_01", "figure_02"),
        ),
        Job(
            "multi_adds",
            "Multi-adds and parameters",
            "04_multi_adds",
            "benchmark",
            ("table_12", "figure_05", "cost_table", "cost_true", "cost_latency"),
        ),
        *(_training_job(name) for name in RUNS),
        Job(
            "tagging_tables",
            "Tagging AudioSet: Tables IV to XI",
            "06_tagging_tables",
            "page",
            (
                *(f"table_{number:02d}" for number in (4, *PAPER_ROWS)),
                *("table_05_rarest_third", "figure_04", "tagging_findings"),
            ),
            tuple(RUNS),
            ("audioset",),
        ),
        Job(
            "tagging_classes",
            "Tagging AudioSet, class by class",
            "07_tagging_classes",
            "page",
            (
                *("figure_03", "figure_03_published", "figure_12", "figure_12_published", "figure_05_ours"),
                *("class_comparison", "class_correlations", "class_gains", "class_gains_published"),
            ),
            tuple(PAPER_ROWS[11]),
            ("audioset",),
        ),
        Job(
            "data_audit",
            "Data audit: why numbers don't reproduce",
            "08_data_audit",
            "page",
            (
                *("audit_splits", "audit_files", "audit_levels", "audit_causes"),
                *("audit_level_histograms", "audit_bandwidth", "audit_class_sizes"),
            ),
            (),
            ("audioset",),
        ),
        Job(
            "cost_planner",
            "What would it cost? Hours, disk and memory at full size",
            "09_cost_planner",
            "benchmark",
            ("planner_measured", "planner_gpus", "planner_runs", "planner_hours"),
            ("multi_adds", *RUNS),
        ),
        *(_transfer_job(task) for task in TRANSFER_TASKS),
        Job(
            "transfer_compared",
            "Transfer, all tasks side by side",
            "11_transfer_compared",
            "page",
            ("transfer_compared", "transfer_gains"),
            tuple(f"transfer_{task}" for task in TRANSFER_TASKS),
            tuple(TRANSFER_TASKS),
        ),
        Job(
            RETHINKING,
            "Rethinking CNN models: do ImageNet's networks do as well?",
            "13_rethinking_cnn",
            "rethinking",
            RETHINKING_MAKES if imagenet_files.installed() else RETHINKING_MAKES[:1],
            tuple(f"transfer_{task}" for task in TRANSFER_TASKS),
            ("audioset", *TRANSFER_TASKS, "urbansound8k"),
        ),
        Job(
            "own_data",
            "Your own data",
            "12_own_data",
            "transfer",
            (
                "own_data_checks",
                "own_data_sounds",
                "own_data_folds",
                "own_data_results",
                "own_data_classes",
                "own_data_mistakes",
                "own_data_few_shot",
            ),
            (PRETRAINING,),
            ("own_data",),
        ),
        Job(
            "sound_events",
            "Sound events: what is heard, and when",
            "14_sound_events",
            "page",
            ("events_framewise", "events_found", "events_thresholds", "events_classes"),
            (EVENTS,),
            ("audioset",),
        ),
        Job(
            "explorer",
            "Explorer: clips and classes, by ear and eye",
            "15_explorer",
            "page",
            ("explorer_clip", "explorer_systems", "explorer_best_worst"),
            tuple(RUNS),  # what it shows is of all that are there, so that two runs show the same
            ("audioset",),
        ),
        Job(
            "quickstart",
            "Quickstart",
            "01_quickstart",
            "page",
            ("quickstart_log_mel", "quickstart_tags"),
            (PRETRAINING,),
            ("audioset",),
        ),
    )
}


def priority(name: str) -> int:
    """Of jobs that could begin, the one with the highest number does.

    First the pages that need nothing, for a first table in minutes, and the base run, which most others wait for; then
    what is long and has something behind it; last the other training runs, which fill the time that is left.
    """
    job = JOBS[name]
    if name == PRETRAINING or (job.kind in ("page", "benchmark") and not job.needs):
        return 4
    return {RETHINKING: 3, "transfer": 2, "training": 0}.get(job.kind, 1)


def _transfer_job_of(task: str) -> str | None:
    """The job that transfers to a data set alone, if there is one."""
    return next((job.name for job in JOBS.values() if job.kind == "transfer" and job.tasks == (task,)), None)


class PageSettings(Settings):
    """What a notebook depends on that trains nothing."""

    seed: profiles.Seed


class BenchmarkSettings(PageSettings):
    """The same, where time is measured: no other job must run on its threads."""

    threads: profiles.Threads


class MachineSettings(Settings):
    """What every training depends on besides its own numbers."""

    seed: profiles.Seed
    threads: profiles.Threads
    accelerator: profiles.Accelerator
    precision: profiles.Precision
    architecture: profiles.Architecture
    width: profiles.Width
    dropout: profiles.Factor
    cache_gib: profiles.Gibibytes = Field(exclude=True)  # where log-mels are kept changes no result
    seconds: profiles.Seconds


class TrainingSettings(MachineSettings):
    """Settings of one training run on AudioSet."""

    optimisation: Optimisation
    evaluate_every: profiles.Count
    sampling: profiles.Sampling
    training_set: profiles.TrainingSet
    share: profiles.Share
    front_end: profiles.FrontEndChanges
    resampling: profiles.Resampling
    compile: bool


class TransferSettings(MachineSettings):
    """Settings of one transfer experiment: a section for each strategy."""

    pretrained: str = "run"
    folds: profiles.Folds | None = None
    segments: bool = False
    scratch: Optimisation
    fine_tune: Optimisation
    freeze_l1: Optimisation
    freeze_l3: Optimisation
    few_shot: profiles.FewShot


class RethinkingSettings(profiles.Rethinking):
    """Settings of the second paper's experiments."""

    seed: profiles.Seed
    threads: profiles.Threads
    accelerator: profiles.Accelerator
    precision: profiles.Precision
    cache_gib: profiles.Gibibytes = Field(exclude=True)  # where log-mels are kept changes no result


SETTINGS = {
    "page": PageSettings,
    "benchmark": BenchmarkSettings,
    "training": TrainingSettings,
    "transfer": TransferSettings,
    "rethinking": RethinkingSettings,
}


def _task_sections() -> set[str]:
    """The keys of a profile's transfer section that are of one task each."""
    fields = profiles.Transfer.model_fields
    return {name for name, field in fields.items() if field.annotation is profiles.TransferTask}


def _settings(job: Job, profile: Profile) -> Settings:
    """The settings of ``job``: the profile's, with the differences that its `runs` section names laid over."""
    common = profile.model_dump(
        include={"seed", "threads", "accelerator", "precision", "architecture", "width", "dropout", "cache_gib"}
    )
    if job.kind == "training":
        content = profiles.merge(common | profile.training.model_dump(), RUNS[job.name].changes)
    elif job.kind == "transfer":
        sections = profile.transfer.model_dump(exclude=_task_sections())
        pretraining = profile.runs.get(PRETRAINING, {})
        network = {key: pretraining[key] for key in ("architecture", "width") if key in pretraining}
        network |= {key: value for key, value in [("architecture", sections.pop("architecture"))] if value}
        content = common | network | sections | profile.transfer.model_dump()[job.tasks[0]]
    elif job.kind == "rethinking":
        machine = {key: value for key, value in common.items() if key not in ("architecture", "width", "dropout")}
        content = machine | profile.rethinking.model_dump()
    else:
        content = {key: common[key] for key in SETTINGS[job.kind].model_fields}
    change = profile.runs.get(job.name, {})
    if job.kind == "transfer" and "width" in change:
        raise ProfileError(
            f"runs.{job.name}.width: a transferred network is as wide as the pretrained one. Set it for "
            f"runs.{PRETRAINING}, or for the whole profile."
        )
    try:
        return SETTINGS[job.kind].model_validate(profiles.merge(content, change))
    except ValidationError as error:
        raise profiles.explain(error, f"profile {profile.name}, runs.{job.name}", SETTINGS[job.kind]) from None


@dataclass(frozen=True)
class Plan:
    """The catalogue at the sizes of one profile, on the data of one data root.

    Attributes:
        profile: the checked profile.
        data_root: folder below which the real data sets are looked for, or None.
        allow_missing: go on, marked partial, where a metadata file names clips that are not there.
    """

    profile: Profile
    data_root: Path | None
    allow_missing: bool = False

    @property
    def runs(self) -> Path:
        """The folder of this plan's runs."""
        return paths.runs(self.profile.name)

    @property
    def figures(self) -> Path:
        """The folder of this plan's tables and figures."""
        return paths.figures(self.profile.name)

    def job(self, name: str) -> Job:
        """The job of that name; `ProfileError` names those that there are."""
        if name not in JOBS:
            raise ProfileError(f"There is no run {name!r} in the catalogue; there are {', '.join(JOBS)}.")
        return JOBS[name]

    def settings(self, name: str) -> Settings:
        """The settings of the job of that name."""
        return _settings(self.job(name), self.profile)

    def threads(self, name: str) -> int:
        """How many threads the job of that name computes with."""
        return getattr(self.settings(name), "threads", 1)

    def seed(self, *parts) -> int:
        """A seed of its own for the part of the work that ``parts`` name, from the profile's seed."""
        text = "/".join(str(part) for part in (self.profile.seed, *parts))
        return zlib.crc32(text.encode())

    def real(self, task: str) -> Path | None:
        """The folder of the real data set of ``task``, or None where its miniature takes its place."""
        return datasets.find(task, self.data_root) if self.data_root else None

    @cached_property
    def _datasets(self) -> dict:
        return {}

    def dataset(self, task: str) -> "datasets.Dataset":
        """The data set of ``task``: the real one if it is below the data root, else its miniature, made if need be."""
        if task not in self._datasets:
            root = self.real(task)
            if root is None:
                root = self._make_miniature(task)
            self._datasets[task] = datasets.load(task, root, allow_missing=self.allow_missing)
        return self._datasets[task]

    def _miniature_sizes(self, task: str) -> dict:
        return getattr(self.profile.miniatures, task).model_dump()

    def _make_miniature(self, task: str) -> Path:
        from pannslib.datasets import miniature

        folder = paths.miniatures(self.profile.name) / task
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{task}.lock"):
            return miniature.make(task, folder, seed=self.profile.seed, **self._miniature_sizes(task))

    def seconds(self, task: str) -> float:
        """The length that the clips of ``task`` are cut or padded to."""
        if task == "urbansound8k":
            return self.settings(RETHINKING).urbansound8k.seconds
        return self.settings(_transfer_job_of(task) or PRETRAINING).seconds

    def packed(self, task: str, progress: bool = False) -> "datasets.PackedClips":
        """The clips of ``task`` (or their segments) at 32 kHz, all of one length, packed to HDF5 once and reused."""
        return datasets.pack(self.dataset(task), progress=progress, shards=self.shards(task), **self._packing(task))

    def pack_shard(self, task: str, shard: int, progress: bool = False, workers: int | None = None) -> Path:
        """Pack one of the `shards` of ``task`` (from 0), decoding with so many ``workers``, and return its file."""
        dataset, shards = self.dataset(task), self.shards(task)
        options = {"progress": progress, "workers": workers}
        return datasets.pack_shard(dataset, shard=shard, shards=shards, **options, **self._packing(task))

    def shards(self, task: str) -> int:
        """How many files ``task`` is packed to."""
        return self.profile.packing.shards if task == "audioset" else 1

    def comes_packed(self, task: str) -> bool:
        """Whether the clips of ``task`` are the authors' packed files, so that there is nothing to pack."""
        return self.real(task) is not None and bool(self.dataset(task).packed)

    def _packing(self, task: str) -> dict:
        """What the packed file of ``task`` is: path, rate, length, whether long clips are cut into segments."""
        seconds, job = self.seconds(task), _transfer_job_of(task)
        return {
            "path": paths.packed(self.profile.name) / f"{task}_{seconds:g}s.h5",
            "sample_rate": SAMPLE_RATE,
            "seconds": seconds,
            "segments": job is not None and self.settings(job).segments,
        }

    def packing_digest(self, task: str) -> str:
        """Sixteen hex digits that change when the packed files of ``task`` must be made anew."""
        settings = {key: value for key, value in self._packing(task).items() if key != "path"}
        return files.digest([datasets.packing.VERSION, self.data_stamp(task), self.shards(task), settings])

    def check_unchanged(self, task: str) -> None:
        """DataError, with the clips, if the data of ``task`` is other than when this plan first looked at it.

        Of a miniature that is when it was packed; one that this plan hasn't read yet can't have changed.
        """
        real = self.real(task) is not None
        if not real and task not in self._datasets:
            return
        before = self.dataset(task)
        stamp, folder = before.stamp, f"{before.root} changed since the run began"
        mend = "Let the copy or download there finish" if real else "Delete the folder, so that it is made anew"
        advice = f"What was computed may rest on both states. {mend}, and start again."
        try:
            now = datasets.load(task, before.root, allow_missing=self.allow_missing)
            if now.stamp == stamp:
                return
        except DataError as fault:
            raise DataError(f"{folder}: {fault} {advice}") from fault
        raise DataError(f"{folder}: {'; '.join(before.differences(now))}. {advice}")

    def known_events(self) -> Path:
        """The folder of a Mini-AudioSet, which says when its events are truly heard; AudioSet itself doesn't."""
        root = self.dataset("audioset").root
        return root if (root / "metadata" / "events.csv").is_file() else self._make_miniature("audioset")

    def data_stamp(self, task: str) -> str:
        """What changes when the data of ``task`` does, known without making or reading a clip."""
        if self.real(task) is not None:
            return self.dataset(task).stamp
        from pannslib.datasets import miniature

        return files.digest([task, miniature.VERSION, self.profile.seed, self._miniature_sizes(task)])

    def pretraining(self, name: str) -> str | None:
        """The AudioSet run that transfer job ``name`` starts from; None where its weights come from elsewhere.

        Raises:
            ProfileError: no run of the catalogue trains the architecture that the profile asks for.
        """
        settings = self.settings(name)
        if settings.pretrained != "run":
            return None
        if settings.architecture == self.settings(PRETRAINING).architecture:
            return PRETRAINING
        runs = {run.changes["architecture"]: key for key, run in RUNS.items() if set(run.changes) == {"architecture"}}
        if settings.architecture not in runs:
            raise ProfileError(
                f"profile {self.profile.name}, {name}: no run trains {settings.architecture}; there are runs of "
                f"{', '.join(sorted(runs))}. Choose one of them as architecture, or give transfer.pretrained the path "
                "of a checkpoint."
            )
        return runs[settings.architecture]

    def needs(self, name: str) -> tuple[str, ...]:
        """The jobs that must be finished before job ``name``, with this profile's settings."""
        job = self.job(name)
        if job.kind != "transfer":
            return job.needs
        source = self.pretraining(name)
        return tuple(need for need in job.needs if need != PRETRAINING) + ((source,) if source else ())

    def _weights(self, name: str) -> str | None:
        """What stands for the weights that transfer job ``name`` starts from, where no run makes them."""
        settings = self.settings(name)
        if settings.pretrained == "run":
            return None
        if settings.pretrained == "released":
            return f"released {settings.architecture}"
        path = Path(settings.pretrained).expanduser()
        if not path.is_file():
            raise ProfileError(
                f"profile {self.profile.name}, transfer.pretrained: there is no checkpoint {path}. Give run, released "
                "or the path of a .safetensors or .pth file."
            )
        return files.sha256(path)

    def weight_folders(self) -> list[Path]:
        """Where files of ImageNet weights are looked for."""
        return [self.data_root / "imagenet", self.data_root / "raw" / "imagenet"] if self.data_root else []

    def imagenet_weights(self) -> dict[str, list]:
        """The files of ImageNet weights that are there: network -> name, size and time, so that others are noticed.

        Where the profile lets them be downloaded, they belong to no plan's inputs: results keep which they were of.
        """
        if not imagenet_files.installed():
            return {"extra": ["not installed"]}
        if self.profile.rethinking.weights == "download":
            return {"torchvision": ["downloaded"]}
        found = {name: imagenet_files.find(name, self.weight_folders()) for name in imagenet_files.STEMS}
        stats = {name: (path.name, path.stat()) for name, path in found.items() if path}
        return {name: [file, stat.st_size, stat.st_mtime_ns] for name, (file, stat) in stats.items()}

    def inputs(self, name: str) -> dict:
        """Everything that the results of job ``name`` depend on, its needs' results aside."""
        job = self.job(name)
        return {
            "job": name,
            "version": __version__,
            "parameters": job.parameters,
            "settings": self.settings(name).model_dump(),
            "data": {task: self.data_stamp(task) for task in job.tasks},
            **({"weights": self._weights(name)} if job.kind == "transfer" else {}),
            **({"weights": self.imagenet_weights()} if job.kind == "rethinking" else {}),
        }

    def digest(self, name: str) -> str:
        """Sixteen hex digits that change when anything does that job ``name`` or what it needs depends on."""
        return files.digest([self.inputs(name), [self.digest(need) for need in self.needs(name)]])


def plan(profile: str | Path = "demo", data_root: str | Path | None = None, allow_missing: bool = False) -> Plan:
    """Check a profile and a data root, and say what is to be done.

    Args:
        profile: "smoke", "demo", "gpu", "full", or the path of a YAML file.
        data_root: folder with one's own copies of the real data sets, `<data_root>/raw/<data set>/`; None or ""
            for `data/` of the project. Where a data set isn't there, its miniature takes its place.
        allow_missing: go on without the clips that a metadata file names but that are not there.

    Raises:
        ProfileError: the profile is not valid.
        DataError: the data root doesn't exist, or a data set in it contradicts itself.
    """
    checked = profiles.load(profile)
    unknown = sorted(set(checked.runs) - set(JOBS))
    if unknown:
        raise ProfileError(
            f"profile {checked.name}, runs.{unknown[0]}: there is no such run; there are {', '.join(JOBS)}."
        )
    if data_root:
        root = Path(data_root).expanduser()
        if not root.is_dir():
            raise DataError(
                f"The data root {root} doesn't exist or isn't a folder. Give the folder that holds raw/<data set>/ "
                "as DATA_ROOT, or leave it out to work on miniatures."
            )
    else:
        root = paths.default_data_root() if paths.default_data_root().is_dir() else None
    made = Plan(checked, root, allow_missing)
    for name in JOBS:
        made.settings(name)
    return made
