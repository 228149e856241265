"""TAU Urban Acoustic Scenes 2019, development set: acoustic scenes (DCASE 2019 task 1A), the task of Table XIV.

    audio/{scene}-{city}-{location}-{segment}-a.wav              14,400 clips of 10 s, 48 kHz, 24 bit, two channels
    meta.csv                                                     filename, scene_label, identifier, source_label
    evaluation_setup/fold1_{train,evaluate}.csv                  filename, scene_label
    evaluation_setup/fold1_test.csv                              filename

All tables are separated by tabs, all file names in them begin with `audio/`. 10 scenes, recorded binaurally at
places (`identifier`, a city and a number); the places of training and test differ. The given split has 9,185 training
and 4,185 test clips, the other 1,030 are in neither and are left out. What reads the clips takes the mean of both
channels. Free for academic use that is not commercial. Source: https://zenodo.org/records/2589280.
"""

from __future__ import annotations

import re
from pathlib import Path

from pannslib.datasets.base import Clip, Dataset, assemble
from pannslib.datasets.listed import Files, Table, divided_groups, keep_present, unnamed
from pannslib.errors import DataError

TITLE = "DCASE 2019 task 1A (TAU Urban Acoustic Scenes 2019)"
TRAINING, TEST = 9185, 4185  # clips of the given split
ARCHIVE_FOLDER = "TAU-urban-acoustic-scenes-2019-development"  # what the official archives unpack to
SIGNS = ("evaluation_setup/fold1_train.csv", "audio/airport-*-*-*-a.wav")
SCENES = (
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street_pedestrian",
    "street_traffic",
    "tram",
)
NAME = re.compile(r"[a-z_]+-(?P<place>[a-z]+-\d+)-\d+-\w+\.\w+", re.IGNORECASE)
REMEDY = f"take the file from {ARCHIVE_FOLDER}.meta.zip again"
SPLITS = {"train": "fold1_train.csv", "test": "fold1_evaluate.csv"}


def load(root: Path) -> Dataset:
    """Read the given split below `root` and check it against `meta.csv` and the files in `audio/`.

    The archives may have been unpacked to one folder or each to its own. Clips that are named but not there (a part
    wasn't downloaded) are left out, and counted in the notes.

    Raises:
        DataError: no table, a row that cannot be right (with its line), no clip is there.
    """
    files = Files(root)
    known = _read_meta(files.find("meta.csv"))
    listed = _read_split(files, known)
    part = files.below("audio")
    found = [(clip, part.find(clip.clip)) for clip in listed]
    clips, notes = keep_present(found, "the tables in evaluation_setup/", "audio/")
    names = {clip.clip for clip in listed}
    unused = [name for name in known if name not in names]
    if unused:
        notes.append(f"{len(unused):,} clips of meta.csv are in neither part of the given split and are left out.")
    used = {clip.path for clip in clips} | {part.find(name) for name in unused}
    notes += unnamed(part, used, "meta.csv", "audio/")
    notes += divided_groups(clips, "places")
    scenes = {number: scene.replace("_", " ") for number, scene in enumerate(SCENES)}
    return assemble("dcase2019_task1a", TITLE, root, clips, scenes, TRAINING + TEST, notes)


def _read_meta(path: Path | None) -> dict[str, tuple[int, str]]:
    """File name -> scene and place of every clip that `meta.csv` names; nothing where that isn't there."""
    known: dict[str, tuple[int, str]] = {}
    if path is None:
        return known
    table = Table(path, REMEDY)
    for line, row in table.rows(("filename", "scene_label"), ("identifier",), delimiter="\t"):
        name = table.name(line, "filename", row["filename"], "audio")
        scene = table.choice(line, "scene_label", row["scene_label"], SCENES)
        known[name] = scene, row["identifier"].casefold() or _place(name)
    return known


def _read_split(files: Files, known: dict[str, tuple[int, str]]) -> list[Clip]:
    """The clips of both parts, without their paths."""
    clips: list[Clip] = []
    lines: dict[str, tuple[Path, int]] = {}
    for split, file in SPLITS.items():
        path = files.find(file)
        named_only = split == "test" and path is None
        if named_only and known:
            path = files.find("fold1_test.csv")  # the same clips without their scenes, which meta.csv tells
        if path is None:
            raise DataError(
                f"{files.root} has no evaluation_setup/{file}, so it is not known what to {split} on. Unpack "
                f"{ARCHIVE_FOLDER}.meta.zip there: evaluation_setup/, meta.csv and audio/ belong into this folder."
            )
        table = Table(path, REMEDY)
        columns = ("filename",) if named_only else ("filename", "scene_label")
        for line, row in table.rows(columns, delimiter="\t"):
            name = table.name(line, "filename", row["filename"], "audio")
            if name in lines:
                other, at = lines[name]
                raise table.fault(line, f"{name} is in line {at} of {other.name} too, but no clip may be in both parts")
            lines[name] = path, line
            if named_only and name not in known:
                raise table.fault(line, f"{name} is not in meta.csv, so its scene is not known")
            scene = known[name][0] if named_only else table.choice(line, "scene_label", row["scene_label"], SCENES)
            told, place = known.get(name, (scene, _place(name)))
            if told != scene:
                raise table.fault(line, f"{name} is {SCENES[scene]} here, but {SCENES[told]} in meta.csv")
            clips.append(Clip(name, "", (scene,), 0, place, split))
    return clips


def _place(name: str) -> str:
    """City and number of the place in a clip's file name; the whole name where that isn't in the official form."""
    found = NAME.fullmatch(name)
    return found["place"].casefold() if found else name
