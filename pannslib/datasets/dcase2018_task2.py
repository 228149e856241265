"""FSDKaggle2018: sounds of Freesound with labels of AudioSet (DCASE 2018 task 2), the task of Table XV.

    FSDKaggle2018.audio_train/*.wav                              9,473 clips of 0.3 to 30 s, 44.1 kHz, 16 bit, mono
    FSDKaggle2018.audio_test/*.wav                               1,600 clips that count, in some copies others besides
    FSDKaggle2018.meta/train_post_competition.csv                fname,label,manually_verified,freesound_id,license
    FSDKaggle2018.meta/test_post_competition_scoring_clips.csv   fname,label,usage,freesound_id,license

41 classes, one a clip; 3,710 of the training labels were verified by people, the rest may be wrong. Results are mAP@3.
Licence CC BY 4.0, each clip under its own (CC0, CC BY, CC BY-NC). Source: https://zenodo.org/records/2552860. Kaggle's
copies (`audio_train/`, `audio_test/`, `train.csv`, `test_post_competition.csv`) are read as well.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pannslib.datasets.base import Clip, Dataset, assemble
from pannslib.datasets.listed import Files, Table, divided_groups, keep_present, unnamed
from pannslib.errors import DataError

TITLE = "DCASE 2018 task 2 (FSDKaggle2018)"
TRAINING, TEST = 9473, 1600
ARCHIVE_FOLDER = "FSDKaggle2018"  # no archive unpacks to it, but it is what most people call the folder
SIGNS = ("FSDKaggle2018.*", "train_post_competition.csv", "test_post_competition*.csv")
CLASSES = (
    "Acoustic_guitar",
    "Applause",
    "Bark",
    "Bass_drum",
    "Burping_or_eructation",
    "Bus",
    "Cello",
    "Chime",
    "Clarinet",
    "Computer_keyboard",
    "Cough",
    "Cowbell",
    "Double_bass",
    "Drawer_open_or_close",
    "Electric_piano",
    "Fart",
    "Finger_snapping",
    "Fireworks",
    "Flute",
    "Glockenspiel",
    "Gong",
    "Gunshot_or_gunfire",
    "Harmonica",
    "Hi-hat",
    "Keys_jangling",
    "Knock",
    "Laughter",
    "Meow",
    "Microwave_oven",
    "Oboe",
    "Saxophone",
    "Scissors",
    "Shatter",
    "Snare_drum",
    "Squeak",
    "Tambourine",
    "Tearing",
    "Telephone",
    "Trumpet",
    "Violin_or_fiddle",
    "Writing",
)
# What each part's table and folder are called: the official names first, then Kaggle's.
PARTS = {
    "train": (("train_post_competition.csv", "train.csv"), ("FSDKaggle2018.audio_train", "audio_train")),
    "test": (
        ("test_post_competition_scoring_clips.csv", "test_post_competition.csv"),
        ("FSDKaggle2018.audio_test", "audio_test"),
    ),
}
IGNORED = "ignored"  # the `usage` of test clips that were only there to hinder labelling by hand
REMEDY = "take the file from FSDKaggle2018.meta.zip again"


def load(root: Path) -> Dataset:
    """Read both tables below `root` and check them against themselves and against the files.

    Clips that are named but not there (a part wasn't downloaded) are left out, and counted in the notes.

    Raises:
        DataError: a table is not there, a row cannot be right (with its line), no clip is there.
    """
    files = Files(root)
    listed: list[tuple[Clip, str | None]] = []
    notes: list[str] = []
    strange: list[str] = []
    lines: dict[str, str] = {}
    for split, (tables, folders) in PARTS.items():
        path = files.find(*tables)
        if path is None:
            raise DataError(
                f"{root} has no {tables[0]}, so it is not known what to {split} on. Unpack FSDKaggle2018.meta.zip "
                "there, beside FSDKaggle2018.audio_train/ and FSDKaggle2018.audio_test/."
            )
        table, part = Table(path, REMEDY), files.below(*folders)
        clips, padding, said = _read(table, split)
        for clip in clips:
            if clip.clip in lines:
                raise table.fault(table.lines[clip.clip], f"{clip.clip} is in {lines[clip.clip]} too")
        lines |= dict.fromkeys(table.lines, path.name)
        found = [(clip, part.find(clip.clip)) for clip in clips]
        listed += found
        notes += said
        known = {place for _, place in found} | {part.find(name) for name in padding}
        strange += unnamed(part, known - {None}, path.name, f"{folders[0]}/")
    clips, missing = keep_present(listed, "the tables", "FSDKaggle2018.audio_train/ and FSDKaggle2018.audio_test/")
    notes = [*missing, *notes, *strange, *divided_groups(clips, "Freesound recordings")]
    names = {number: name.replace("_", " ") for number, name in enumerate(CLASSES)}
    return assemble("dcase2018_task2", TITLE, root, clips, names, TRAINING + TEST, notes)


def _read(table: Table, split: str) -> tuple[list[Clip], list[str], list[str]]:
    """The clips that a table names, without their paths; the names of those that don't count; sentences on both."""
    clips: list[Clip] = []
    padding: list[str] = []
    verified: Counter[str] = Counter()
    licences: Counter[str] = Counter()
    for line, row in table.rows(("fname", "label"), ("usage", "manually_verified", "freesound_id", "license")):
        name = table.name(line, "fname", row["fname"])
        if row["usage"].casefold() == IGNORED:
            padding.append(name)
            continue
        number = table.choice(line, "label", row["label"], CLASSES)
        if row["manually_verified"] not in ("", "0", "1"):
            raise table.fault(line, f"manually_verified is {row['manually_verified']!r}, but must be 0 or 1")
        verified[row["manually_verified"]] += 1
        licences[row["license"]] += 1
        group = f"Freesound {row['freesound_id']}" if row["freesound_id"] else name
        clips.append(Clip(name, "", (number,), 0, group, split))
    notes = []
    if padding:
        notes.append(f"{len(padding):,} clips of {table.path.name} that don't count (usage Ignored) are left out.")
    if verified["0"]:
        notes.append(
            f"{verified['1']:,} of the {len(clips):,} labels in {table.path.name} were verified by people, the others "
            "may be wrong."
        )
    if any(licences):
        told = ", ".join(f"{name or 'not said'} ({count:,})" for name, count in sorted(licences.items()))
        notes.append(f"Licences of the clips in {table.path.name}: {told}.")
    return clips, padding, notes
