"""Weights go in and out unchanged, and what isn't a checkpoint of the model is refused with the reason."""

import json
import pickle
import re
import zipfile

import golden_recipe
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pannslib.errors import CheckpointError
from pannslib.models import create_model, load_checkpoint, read_metadata, save_checkpoint

WIDTH = 0.125


def model(name: str = "Cnn6", seed: int = 0, **options):
    torch.manual_seed(seed)
    return create_model(name, **({"classes": 5, "width": WIDTH} | options))


def same_weights(one, two) -> bool:
    return all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(CheckpointError) as error:
        function(*arguments, **options)
    return str(error.value)


@pytest.fixture
def released(tmp_path):
    """A file as the authors' training script writes it, of Cnn6, with a sampler's NumPy state."""
    path = tmp_path / "Cnn6_mAP=0.343.pth"
    sampler = {"indexes": np.arange(7), "queue": [np.int64(3), 4], "pointer": 2, "flags": np.array([True])}
    torch.save({"iteration": 1, "model": golden_recipe.state_dict("Cnn6"), "sampler": sampler}, path)
    return path


@pytest.mark.parametrize("name", ["Cnn6", "Cnn14_DecisionLevelAtt", "LeeNet11", "VGGish"])
def test_round_trip(tmp_path, name):
    saved, other = model(name), model(name, seed=1)
    path = save_checkpoint(saved, tmp_path / "new" / "weights.safetensors", labels=["a", "b"])
    assert not same_weights(saved, other)
    assert load_checkpoint(other, path) is other
    assert same_weights(saved, other)
    metadata = read_metadata(path)
    assert (metadata["model"], metadata["classes"], metadata["width"]) == (name, 5, WIDTH)
    assert metadata["labels"] == ["a", "b"]
    assert metadata["front_end"]["sample_rate"] == saved.sample_rate
    assert [file.name for file in path.parent.iterdir()] == ["weights.safetensors"]


def test_released_files_load(released):
    full = create_model("Cnn6")
    load_checkpoint(full, released)
    assert torch.equal(full.fc1.weight, golden_recipe.state_dict("Cnn6")["fc1.weight"])


def test_numpy_values_of_old_versions_load(released, tmp_path):
    # NumPy 1 called its module numpy.core, as the released 16 kHz file does
    old = tmp_path / "old.pth"
    with zipfile.ZipFile(released) as source, zipfile.ZipFile(old, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray")
            target.writestr(entry.filename.replace(released.stem, "old"), content)
    load_checkpoint(create_model("Cnn6"), old)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_load_with_and_without_a_prefix(prefix):
    saved, other = model(), model(seed=1)
    load_checkpoint(other, {prefix + name: value for name, value in saved.state_dict().items()})
    assert same_weights(saved, other)


@pytest.mark.parametrize("name", ["Cnn6", "Cnn14_DecisionLevelAtt"])
def test_the_head_can_stay(name):
    saved, other = model(name, classes=7), model(name, seed=1)
    before = {entry: other.state_dict()[entry].clone() for entry in other.head_names}
    load_checkpoint(other, saved.state_dict(), head=False)
    for entry, value in other.state_dict().items():
        expected = before[entry] if entry in before else saved.state_dict()[entry]
        assert torch.equal(value, expected), entry


def test_another_number_of_classes_is_explained(tmp_path):
    path = save_checkpoint(model(classes=7), tmp_path / "seven.safetensors")
    message = refusal(load_checkpoint, model(), path)
    assert "fc_audioset.weight is (7, 64) instead of (5, 64)" in message
    assert "create_model('Cnn6', classes=7, width=0.125)" in message
    assert "head=False" in message


def test_another_architecture_is_named():
    weights = golden_recipe.state_dict("Cnn10")
    message = refusal(load_checkpoint, create_model("Cnn6"), weights)
    assert "create_model('Cnn10', classes=527)" in message
    assert "head=False" not in message


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "nan", "integer"])
def test_a_wrong_tensor_is_named_and_nothing_is_loaded(change):
    weights, other = dict(model().state_dict()), model(seed=1)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    if change == "missing":
        del weights["fc1.bias"]
    elif change == "unexpected":
        weights["fc2.bias"] = torch.zeros(3)
    elif change == "shape":
        # a view of one number: its claimed size must not be allocated
        weights["fc1.weight"] = torch.zeros(1).expand(10**6, 10**6)
    else:
        wrong = torch.full((64,), float("nan")) if change == "nan" else torch.zeros(64, dtype=torch.int64)
        weights["fc1.bias"] = wrong
    message = refusal(load_checkpoint, other, weights)
    assert re.search({"unexpected": r"fc2\.bias", "shape": r"fc1\.weight"}.get(change, r"fc1\.bias"), message)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_a_16_khz_file_doesnt_go_into_a_32_khz_model():
    front_end = golden_recipe.front_end_entries("Cnn14_16k")
    assert len(front_end) == 3
    weights = model("Cnn14_16k").state_dict() | front_end
    message = refusal(load_checkpoint, model("Cnn14"), weights)
    assert "16000 Hz with 64 mel bins" in message
    load_checkpoint(model("Cnn14_16k"), weights)


def test_our_files_say_their_front_end(tmp_path):
    path = save_checkpoint(model("Cnn14", hop=500), tmp_path / "hop.safetensors")
    assert "hop=500" in refusal(load_checkpoint, model("Cnn14"), path)
    load_checkpoint(model("Cnn14", hop=500), path)
    waveform = save_checkpoint(model("LeeNet11", sample_rate=16_000), tmp_path / "16k.safetensors")
    assert "sample_rate=16000" in refusal(load_checkpoint, model("LeeNet11"), waveform)


class Harmful:
    """What a pickle of it would do when it is read."""

    def __reduce__(self):
        return (print, ("code ran",))


def test_code_is_never_run(tmp_path, capsys):
    path = tmp_path / "harmful.pth"
    torch.save({"model": {"fc1.bias": Harmful()}}, path)
    assert "without running code" in refusal(load_checkpoint, model(), path)
    path.write_bytes(pickle.dumps(Harmful(), protocol=2))
    refusal(load_checkpoint, model(), path)
    assert "code ran" not in capsys.readouterr().out


def test_what_is_no_checkpoint_is_refused(tmp_path, released):
    assert "There is no checkpoint" in refusal(load_checkpoint, model(), tmp_path / "none.pth")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(released.read_bytes()[:100_000])
    assert str(cut) in refusal(load_checkpoint, model(), cut)
    text = tmp_path / "text.pth"
    text.write_text("<html>not found</html>")
    assert str(text) in refusal(load_checkpoint, model(), text)
    empty = tmp_path / "empty.pth"
    empty.write_bytes(b"")
    assert str(empty) in refusal(load_checkpoint, model(), empty)
    number = tmp_path / "number.pth"
    torch.save({"iteration": 3}, number)
    assert "holds no state dict" in refusal(load_checkpoint, model(), number)
    assert "holds no state dict" in refusal(load_checkpoint, model(), {})
    whole = save_checkpoint(model(), tmp_path / "whole.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-10])
    assert "complete" in refusal(load_checkpoint, model(), cut)
    assert "complete" in refusal(read_metadata, cut)


def test_foreign_safetensors_load_by_their_names(tmp_path):
    saved, other = model(), model(seed=1)
    path = tmp_path / "foreign.safetensors"
    save_file(saved.state_dict(), path, metadata={"format": "pt"})
    load_checkpoint(other, path)
    assert same_weights(saved, other)
    assert read_metadata(path) == {}


def test_metadata_are_json_and_the_settings_cant_be_overwritten(tmp_path):
    path = save_checkpoint(model(), tmp_path / "weights.safetensors", classes=99, note={"mAP": 0.4})
    assert read_metadata(path)["classes"] == 5
    assert read_metadata(path)["note"] == {"mAP": 0.4}
    assert set(load_file(path)) == set(model().state_dict())
    with pytest.raises(TypeError):
        save_checkpoint(model(), tmp_path / "other.safetensors", note=object())
    assert not (tmp_path / "other.safetensors").exists()
    assert json.dumps(read_metadata(path)["front_end"])


def test_equal_weights_have_equal_bytes(tmp_path):
    network = create_model("Cnn6", classes=3, width=0.1)
    labels = ["wind", "Größe", "bell"]
    paths = [save_checkpoint(network, tmp_path / f"{n}.safetensors", labels=labels, kind="x") for n in range(5)]
    assert len({path.read_bytes() for path in paths}) == 1
    assert read_metadata(paths[0])["labels"] == labels
