"""One's own data: what a folder and a CSV may look like, and what is said of each fault."""

import numpy as np
import pytest
import soundfile

from pannslib import datasets
from pannslib.datasets import own
from pannslib.errors import DataError

NAMES = [f"{label}_{number}.wav" for label in ("cat", "dog") for number in range(6)]
LINES = [f"{name},{name[:3]},{'ab'[number % 2]}{number % 3}" for number, name in enumerate(NAMES)]
HEADER = "file,label,group"


def make(tmp_path, lines=LINES, header=HEADER, names=NAMES, encoding="utf-8", end="\n"):
    """A folder with sound files, no two alike, and its table as bytes."""
    folder = tmp_path / "sounds"
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.full(800, (number + 1) / 100), 8000)
    (folder / "clips.csv").write_bytes((end.join([header, *lines]) + end).encode(encoding))
    return folder


def said(found, check):
    """The result of one check."""
    return found.checks.set_index("check").loc[check, "result"]


def test_a_plain_table(tmp_path):
    found = own.examine(make(tmp_path))
    dataset = found.dataset
    assert (dataset.evidence, dataset.classes, len(dataset.clips)) == ("real", ("cat", "dog"), 12)
    assert dataset.clips["group"][1] == "b1"
    assert dataset.folds == [1, 2, 3, 4, 5]
    assert found.skipped.empty
    assert dataset.notes == ()
    assert said(found, "missing files") == "none"
    dataset.check_splits()
    assert datasets.load("own_data", dataset.root).fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("encoding", "end", "said_of_it"),
    [
        ("utf-8", "\r\n", "UTF-8"),
        ("utf-8", "\r", "UTF-8"),
        ("utf-8-sig", "\r\n", "UTF-8 with a byte order mark"),
        ("utf-16", "\n", "UTF-16"),
        ("utf-16-le", "\r\n", "UTF-16"),
        ("cp1252", "\n", "Windows-1252"),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_encodings_line_ends_and_separators(tmp_path, encoding, end, said_of_it, separator):
    names = [name.replace("cat", "Kätzchen") for name in NAMES]
    lines = [separator.join([name, "Kätzchen" if name.startswith("K") else "dog"]) for name in names]
    found = own.examine(make(tmp_path, lines, f"file{separator}label", names, encoding, end))
    assert found.dataset.classes == ("Kätzchen", "dog")
    assert len(found.dataset.clips) == 12
    assert said(found, "encoding") == said_of_it


def test_two_encodings_in_one_file_are_told_with_the_line(tmp_path):
    folder = make(tmp_path)
    table = folder / "clips.csv"
    table.write_bytes(
        table.read_bytes()
        .replace(b"cat_1.wav,cat", b"cat_1.wav,ch\xe4t")
        .replace(b"cat_2.wav,cat", "cat_2.wav,chät".encode())
    )
    found = own.examine(folder)
    assert found.dataset.classes == ("cat", "chät", "dog")
    assert any("Two encodings are mixed" in note and "in line 3 Windows-1252" in note for note in found.dataset.notes)


def test_what_can_be_gone_on_without_is_skipped_and_listed(tmp_path):
    lines = [
        *LINES,
        "ghost.wav,cat,a0",
        "dog_1.wav,dog," + LINES[7].split(",")[2],
        "dog_2.wav, ,a0",
        ",dog,a0",
        "a,b,c,d,e",
        "",
    ]
    found = own.examine(make(tmp_path, lines, names=[*NAMES, "extra.wav", "notes.txt.flac"]))
    assert len(found.dataset.clips) == 12
    reasons = found.skipped.set_index("line")["reason"].to_dict()
    assert reasons == {
        14: "the file isn't there",
        15: "the same as line 9",
        16: "the label is empty",
        17: "no file is named",
        18: "5 values where the header has 3",
    }
    assert found.dataset.evidence == "partial"
    assert "ghost.wav" in said(found, "missing files")
    assert "2 sound files" in said(found, "extra files")
    assert any("5 lines of clips.csv are skipped" in note for note in found.dataset.notes)


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        ([*LINES, "cat_0.wav,dog,a0"], HEADER, r"lines 2 and 14: cat_0\.wav is .* 'cat' and 'dog'.*cat;dog"),
        ([*LINES, "cat_0.wav,cat,zz"], HEADER, r"lines 2 and 14: .* with group 'a0' and 'zz'"),
        (LINES, "name,kind,group", r"line 1: there is no column file and no column label.*says name, kind, group"),
        (LINES[:6], HEADER, r"have one label, 'cat'\. Two classes"),
        (["x.wav,cat,a"], HEADER, r"no line can be used \(line 2: the file isn't there\)"),
        ([], HEADER, r"no line can be used \(it has a header"),
        (["../secret.wav,cat,a", *LINES], HEADER, r"line 2: the file '\.\./secret\.wav' is outside"),
        (["C:\\sounds\\x.wav,cat,a", *LINES], HEADER, r"line 2: .* is outside"),
        ([*LINES, '"open,cat,a'], HEADER, r"line 14: this is no CSV"),
        ([line.rsplit(",", 1)[0] + ",one" for line in LINES], HEADER, r"all clips are of one group, 'one'"),
        (
            [f"{line},{k // 6}" for k, line in enumerate(LINES)],
            HEADER + ",fold",
            r"lines 2 and 8: group 'a0' is in fold 0 and in fold 1, .* leave the column fold out",
        ),
        ([f"{line},first" for line in LINES], HEADER + ",fold", r"line 2: fold is 'first', but must be a whole number"),
        ([*(f"{line},1" for line in LINES[:-1]), LINES[-1] + ","], HEADER + ",fold", r"line 13: fold is ''"),
        ([f"{line},3" for line in LINES], HEADER + ",fold", "all clips are in fold 3"),
        ([f"{line},middle" for line in LINES], HEADER + ",split", r"line 2: split is 'middle', but must be train or"),
        ([f"{line},test" for line in LINES], HEADER + ",split", "all clips are in the split test"),
    ],
)  # fmt: skip
def test_what_cannot_be_gone_on_with_names_line_and_remedy(tmp_path, lines, header, message):
    with pytest.raises(DataError, match=message):
        own.examine(make(tmp_path, lines, header))


def test_an_empty_table_and_no_table(tmp_path):
    folder = make(tmp_path)
    (folder / "clips.csv").write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        own.load(folder)
    (folder / "clips.csv").unlink()
    with pytest.raises(DataError, match="no CSV file"):
        own.load(folder)
    (folder / "a.csv").touch()
    (folder / "b.csv").touch()
    with pytest.raises(DataError, match=r"2 CSV files \(a\.csv, b\.csv\)"):
        own.load(folder)
    with pytest.raises(DataError, match=r"There is no file other\.csv"):
        own.load(folder, "other.csv")
    with pytest.raises(DataError, match="is no folder"):
        own.load(folder / "nothing")
    with pytest.raises(DataError, match="folds is 1"):
        own.load(folder, folds=1)


def test_several_labels_a_clip(tmp_path):
    lines = [line.replace(",cat,", ",cat; pet,").replace(",dog,", ",dog|pet|dog,") for line in LINES]
    dataset = own.load(make(tmp_path, lines))
    assert dataset.classes == ("cat", "dog", "pet")
    np.testing.assert_array_equal(dataset.targets.sum(0), [6, 6, 12])
    assert set(dataset.targets.sum(1)) == {2}
    assert dataset.folds == [1, 2, 3, 4, 5]
    in_folds = dataset.clips.groupby("fold")["group"].unique()
    assert sum(map(len, in_folds)) == dataset.clips["group"].nunique()


def test_given_folds_may_count_from_zero_and_look_like_fractions(tmp_path):
    lines = [f"{name},{name[:3]},{k % 3}.0" for k, name in enumerate(NAMES)]
    found = own.examine(make(tmp_path, lines, "file,label,fold"))
    assert found.dataset.clips["fold"].tolist() == [k % 3 + 1 for k in range(12)]
    assert "counted from 1" in said(found, "folds")


def test_a_given_split(tmp_path):
    lines = [f"{name},{name[:3]},{'Training' if k % 3 else 'test'}" for k, name in enumerate(NAMES)]
    dataset = own.load(make(tmp_path, lines, "file,label,split"))
    assert dataset.clips["split"].tolist() == ["train" if k % 3 else "test" for k in range(12)]
    assert set(dataset.clips["fold"]) == {0}


def test_folds_are_stratified_and_by_seed(tmp_path):
    folder = make(tmp_path, [f"{name},{name[:3]}" for name in NAMES], "file,label")
    dataset = own.load(folder, folds=3)
    assert set(dataset.clips.assign(label=dataset.label).groupby(["fold", "label"]).size()) == {2}
    assert any("No groups" in note for note in dataset.notes)
    others = [own.load(folder, folds=3, seed=seed).clips["fold"].tolist() for seed in range(3)]
    assert others[0] == dataset.clips["fold"].tolist()
    assert len(set(map(tuple, others))) > 1


def test_a_class_with_fewer_clips_than_folds_is_said(tmp_path):
    lines = [*(f"{name},{name[:3]}" for name in NAMES), "emu_0.wav,emu", "emu_1.wav,emu", "owl.wav,owl"]
    dataset = own.load(make(tmp_path, lines, "file,label", [*NAMES, "emu_0.wav", "emu_1.wav", "owl.wav"]))
    assert any("Fewer clips than the 5 folds" in note and "emu (2), owl (1)" in note for note in dataset.notes)
    assert any("All clips in one fold" in note and "owl" in note for note in dataset.notes)


def test_the_same_sound_under_two_names_stays_on_one_side(tmp_path):
    folder = make(tmp_path, [f"{name},{name[:3]}" for name in NAMES], "file,label")
    (folder / "dog_5.wav").write_bytes((folder / "cat_0.wav").read_bytes())
    dataset = own.load(folder)
    fold = dataset.clips.set_index("clip")["fold"]
    assert fold["dog_5.wav"] == fold["cat_0.wav"]
    assert any("cat_0.wav = dog_5.wav" in note and "one of which must be wrong" in note for note in dataset.notes)


def test_files_are_found_in_folders_and_by_other_spellings(tmp_path):
    names = [f"{name[:3]}/{name}" for name in NAMES]
    lines = [f"{name},{name[:3]}" for name in NAMES]  # the name alone
    lines[0], lines[1] = "cat\\cat_0.wav,cat", "CAT/Cat_1.WAV,cat"
    found = own.examine(make(tmp_path, lines, "File, Label", names))
    assert sorted(found.dataset.clips["path"]) == sorted(names)
    assert "found" in said(found, "file names")


def test_files_may_be_named_from_the_table_or_from_where_the_folder_is(tmp_path):
    folder = make(tmp_path)
    table = tmp_path / "tables" / "clips.csv"
    table.parent.mkdir()
    for prefix in ("sounds/", "../sounds/"):
        table.write_text("file,label\n" + "".join(f"{prefix}{name},{name[:3]}\n" for name in NAMES))
        if ".." in prefix:
            with pytest.raises(DataError, match="outside of"):
                own.load(folder, table)
        else:
            assert sorted(own.load(folder, table).clips["path"]) == sorted(NAMES)


def test_labels_that_differ_in_spelling_only_are_said(tmp_path):
    lines = [line.replace(",dog,", ",Cat,") for line in LINES]
    assert any("Cat and cat" in note for note in own.load(make(tmp_path, lines)).notes)


def test_numbers_as_labels_are_in_their_order(tmp_path):
    lines = [f"{name},{k % 12}" for k, name in enumerate(NAMES)]
    assert own.load(make(tmp_path, lines, "file,label")).classes == tuple(map(str, range(12)))
