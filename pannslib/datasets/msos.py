"""Making Sense of Sounds 2018: five kinds of sound (Harris and Bones), the task of Table XVI.

    Development/{Effects,Human,Music,Nature,Urban}/*.wav         1,500 clips
    Logsheet_Development.csv                                     Category,Event,File
    Evaluation/*.wav                                             500 clips
    Logsheet_EvaluationMaster.csv                                the same columns, published after the challenge

Each of the five categories holds many kinds of event, and those of the evaluation set need not be in the development
set. The archive of the development set unpacks to `MSoS_challenge_2018_Development_v1-00/`; the folders may lie at any
place below the data set's own. The data say of no clip which recording it was cut from. Licence, sample rate and length
of the clips are not known beforehand: they are as the files are. Source: https://doi.org/10.17866/rd.salford.6901475.v4.
"""

from __future__ import annotations

from pathlib import Path

from pannslib.datasets.base import Clip, Dataset, assemble, some
from pannslib.datasets.listed import Files, Table, keep_present, unnamed
from pannslib.errors import DataError

TITLE = "Making Sense of Sounds 2018"
TRAINING, TEST = 1500, 500
CATEGORIES = ("Effects", "Human", "Music", "Nature", "Urban")
DEVELOPMENT = "MSoS_challenge_2018_Development_v1-00"  # what the development set's archive unpacks to
SIGNS = ("Logsheet_*.csv", f"{DEVELOPMENT}*")
REMEDY = "take the log sheet from the official archive again"
# split -> its log sheet, its folder
PARTS = {
    "train": (("Logsheet_Development.csv",), "Development"),
    "test": (("Logsheet_EvaluationMaster.csv", "Logsheet_Evaluation.csv"), "Evaluation"),
}


def load(root: Path) -> Dataset:
    """Read both log sheets below `root` and check them against themselves and against the files.

    Clips that are named but not there (a part wasn't downloaded) are left out, and counted in the notes.

    Raises:
        DataError: a log sheet is not there, a row cannot be right (with its line), no clip is there.
    """
    files = Files(root)
    listed: list[tuple[Clip, str | None]] = []
    strange: list[str] = []
    events: dict[str, set[str]] = {}
    for split, (sheets, folder) in PARTS.items():
        path = files.find(*sheets)
        if path is None:
            raise DataError(
                f"{root} has no {sheets[0]}, so it is not known what to {split} on. Put the log sheet of the official "
                f"archive there, beside {folder}/."
            )
        table, part = Table(path, REMEDY), files.below(folder)
        clips, events[split] = _read(table, split, folder)
        found = [(clip, part.find(Path(clip.clip).name, CATEGORIES[clip.targets[0]])) for clip in clips]
        listed += found
        strange += unnamed(part, {place for _, place in found if place}, path.name, f"{folder}/")
    clips, notes = keep_present(listed, "the log sheets", "Development/ and Evaluation/")
    kinds = events["train"] | events["test"]
    notes.append(f"The log sheets tell {len(kinds):,} kinds of event in the {len(CATEGORIES)} categories.")
    new = sorted(events["test"] - events["train"])
    if new:
        notes.append(f"{len(new):,} kinds of event are in the evaluation set alone: {some(new)}.")
    names = dict(enumerate(CATEGORIES))
    return assemble("msos", TITLE, root, clips, names, TRAINING + TEST, [*notes, *strange])


def _read(table: Table, split: str, folder: str) -> tuple[list[Clip], set[str]]:
    """The clips that a log sheet names, without their paths, and the kinds of event in it."""
    clips: list[Clip] = []
    events: set[str] = set()
    for line, row in table.rows(("Category", "File"), ("Event",)):
        number = table.choice(line, "Category", row["Category"], CATEGORIES)
        place = f"{CATEGORIES[number]}/" if split == "train" else ""  # the evaluation set has no folders
        clip = f"{folder}/{place}{table.name(line, 'File', row['File'], within=place)}"
        events.add(row["Event"].casefold())
        clips.append(Clip(clip, "", (number,), 0, clip, split))
    return clips, events - {""}
