"""Every engine gives what the network gives; what isn't there is replaced and explained; folding changes nothing."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from pannslib import AudioTagger, models
from pannslib.errors import CheckpointError, ModelError
from pannslib.features import LogMel
from pannslib.inference import engines, graphs, rearranging, runtimes, speed
from pannslib.inference.folding import fold

# one of each kind of block, at the smallest size
NAMES = (
    "Cnn6",
    "Cnn14_DecisionLevelAtt",
    "ResNet22",
    "MobileNetV1",
    "MobileNetV2",
    "DaiNet19",
    "Wavegram_Logmel_Cnn14",
)
NAMES += ("LeeNet11", "Res1dNet31", "VGGish")


def small(name: str, **options):
    """A narrow model whose batch norms do something."""
    torch.manual_seed(0)
    model = models.create_model(name, classes=5, width=0.0625, **options).eval()
    for key, value in model.state_dict().items():
        if key.endswith(("running_mean",)):
            value.normal_(0, 0.1)
        elif key.endswith("running_var") or (key.endswith("weight") and value.ndim == 1):
            value.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_a_folded_network_gives_the_same_with_fewer_layers(name):
    model = small(name)
    folded = fold(model)
    waveform = torch.from_numpy(speed.noise(2, 1.37, model.sample_rate))
    with torch.inference_mode():
        expected, given = model(waveform), folded(waveform)
    for one, other in zip(expected, given, strict=True):
        assert one is other is None or torch.allclose(one, other, atol=1e-5)

    def norms(network):
        return sum(isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d) for module in network.modules())

    # what stays normalises the input, or is in the released weights and not used
    assert norms(folded) <= 2
    assert model.training is False
    assert norms(model) > norms(folded) or name == "VGGish"


@pytest.mark.parametrize("name", NAMES)
def test_graphs_give_the_same_at_other_batches_and_lengths(name, tmp_path, monkeypatch):
    monkeypatch.setattr(rearranging, "LEAST_INPUTS", {3: 4, 5: 4})  # so that narrow models go by Winograd's method too
    model = small(name)
    fastest = engines.fastest("cpu", "fp32", name)
    kinds = ["onnxruntime", "openvino", *[kind for kind in ("winograd", "ncnn") if kind in fastest]]
    for kind in kinds:
        engine = engines.create(lambda: model, model, "x", engine=kind, folder=tmp_path)
        assert engine.name == kind
        for batch, seconds in ((1, 2.0), (3, 1.234), (2, 2.0)):
            waveform = speed.noise(batch, seconds, model.sample_rate)
            given = engine(waveform)
            with torch.inference_mode():
                expected = model(torch.from_numpy(waveform))
            np.testing.assert_allclose(given.clipwise_output, expected.clipwise_output, atol=1e-5)
            np.testing.assert_allclose(given.embedding, expected.embedding, rtol=1e-3, atol=1e-4)
            if model.classifies_frames:
                np.testing.assert_allclose(given.framewise_output, expected.framewise_output, atol=1e-5)
    kept = {path.name for path in (tmp_path / f"{name}-x").iterdir()}
    assert {engines.RUNTIMES[kind].file.format(precision="fp32") for kind in kinds} <= kept


@pytest.mark.parametrize("kind", ["folded", "openvino"])
def test_bf16_is_near(kind, tmp_path):
    model = small("Cnn6")
    waveform = speed.noise(2, 1.5, model.sample_rate)
    given = engines.create(lambda: model, model, "x", precision="bf16", engine=kind, folder=tmp_path)(waveform)
    with torch.inference_mode():
        expected = model(torch.from_numpy(waveform)).clipwise_output
    np.testing.assert_allclose(given.clipwise_output, expected, atol=0.01)


def test_winograd_is_for_the_first_convolutions():
    by_two, without = runtimes.BY_TWO.format(outputs=1024), runtimes.WITHOUT_WINOGRAD
    layers = {
        "7767517": "",
        "9 9": "",
        "Convolution a 1 1 0 1 0=64 1=3 11=3 4=1 5=1 6=576 9=1": without,  # one channel comes in
        "Convolution b 1 1 1 2 0=512 1=3 11=3 4=1 5=1 6=2359296 9=1": "",
        "Convolution c 1 1 2 3 0=2048 1=1 11=1 5=1 6=2097152 9=1": without,  # of 1 x 1, which has no such method
        "Convolution d 1 1 3 4 0=2048 1=1 11=3 5=1 6=6291456 9=1": without,  # along time alone
        "Convolution e 1 1 4 5 0=256 1=3 11=3 4=1 5=1 6=589824 9=1": "",
        "Convolution f 1 1 5 6 0=1024 1=3 11=3 4=1 5=1 6=9437184 9=1": by_two,  # too many for four times as many
        "Convolution g 1 1 6 7 0=2048 1=3 11=3 4=1 5=1 6=75497472 9=1": without,  # and for twice
        "Convolution h 1 1 7 8 0=1024 1=3 11=3 4=1 5=1 6=147456 9=1": "",
        "InnerProduct i 1 1 8 9 0=2048 1=1 2=4194304 9=1": "",
    }
    assert runtimes._tuned(list(layers)) == [f"{line} {added}".rstrip() for line, added in layers.items()]


def test_ncnn_gives_the_same_by_any_number_of_places(tmp_path):
    model = small("Cnn10")
    waveform = speed.noise(1, 2, model.sample_rate)
    outputs = []
    for by_four, kept in ((2**25, 2**25), (0, 2**25), (0, 0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runtimes, "MOST_BY_FOUR", by_four)
            patch.setattr(runtimes, "MOST_KEPT", kept)
            made = engines.create(lambda: model, model, "x", engine="ncnn", folder=tmp_path)
            outputs.append(made(waveform).clipwise_output)
    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], atol=1e-6)


@pytest.mark.parametrize(
    ("vendor", "flags", "faster"),
    [
        ("AuthenticAMD", {"avx512f", "avx512_bf16"}, True),
        ("GenuineIntel", {"avx512f", "avx512_bf16"}, False),
        ("GenuineIntel", {"avx512f", "avx512_bf16", "amx_bf16"}, True),
        ("GenuineIntel", {"avx512f"}, False),
        ("", set(), False),
    ],
)
def test_bf16_is_taken_where_it_is_faster(vendor, flags, faster, monkeypatch, capsys):
    monkeypatch.setattr(engines, "processor", {"vendor_id": vendor}.__getitem__)
    monkeypatch.setattr(engines, "processor_flags", lambda: flags)
    assert engines.has_bf16() is faster
    assert engines.precision_for("auto", "cpu", "auto") == ("bf16" if faster else "fp32")
    assert capsys.readouterr().err == ""
    assert engines.precision_for("bf16", "cpu", "auto") == ("bf16" if faster else "fp32")
    assert engines.precision_for("bf16", "cpu", "openvino") == "bf16"  # by its name: as asked
    assert ("no faster in bf16" in capsys.readouterr().err) is not faster
    assert engines.precision_for("bf16", "cuda", "auto") == engines.precision_for("auto", "cuda", "auto") == "bf16"
    assert engines.precision_for("fp32", "cpu", "auto") == "fp32"


def test_the_key_of_a_checkpoint_is_computed_once(tmp_path, monkeypatch):
    path, folder = tmp_path / "w.pth", tmp_path / "cache"
    path.write_bytes(b"one")
    first = engines.key_of(path, folder)
    assert len(first) == 16
    with monkeypatch.context() as patch:
        patch.setattr(engines.files, "sha256", lambda path: pytest.fail("it was to be remembered"))
        assert engines.key_of(path, folder) == first
    path.unlink()
    path.write_bytes(b"two")
    assert engines.key_of(path, folder) != first
    other = tmp_path / "same.pth"
    other.write_bytes(b"two")
    assert engines.key_of(other, folder) == engines.key_of(path, folder)
    for number in range(engines.files.MOST_REMEMBERED + 1):
        (tmp_path / f"{number}.pth").write_bytes(b"")
        engines.key_of(tmp_path / f"{number}.pth", folder)
    assert len(engines.files.read_json(folder / engines.KEYS)) == engines.files.MOST_REMEMBERED


def test_the_fastest_engine_goes_with_the_architecture():
    compiled = ("winograd",) if engines.can_run("winograd") else ()
    assert engines.fastest("cpu", "fp32", "Cnn14") == (*compiled, "ncnn", "onnxruntime", "openvino", "folded")
    assert engines.fastest("cpu", "fp32", "ResNet38")[: len(compiled) + 1] == (*compiled, "ncnn")
    assert engines.fastest("cpu", "bf16", "ResNet54")[0] == "openvino"
    assert engines.fastest("cpu", "fp32", "Cnn6")[0] == "openvino"  # of the same family, but 5 x 5
    assert engines.fastest("cpu", "fp32", "MobileNetV1")[0] == "onnxruntime"
    assert engines.fastest("cpu", "fp32", "LeeNet24") == ("openvino", "onnxruntime", "folded")
    assert engines.fastest("cpu", "fp32", "VGGish") == engines.FASTEST["cpu", "fp32"]
    assert engines.fastest("cpu", "bf16", "MobileNetV1") == engines.FASTEST["cpu", "bf16"]
    assert engines.fastest("cuda", "bf16", "Cnn14") == engines.FASTEST["cuda", "bf16"]
    assert engines.choose(small("Cnn6"), "cpu", "tf32") == "folded"  # which `create` refuses then


def test_the_number_of_threads_is_as_before_a_clip(tmp_path):
    model = small("MobileNetV1")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engines.create(lambda: model, model, "x", engine="onnxruntime", folder=tmp_path)(speed.noise(1, 1, 32_000))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_missing_engine_is_replaced_and_explained_in_a_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(engines, "installed", lambda package: package not in ("ncnn", "onnxruntime", "openvino"))
    model = small("Cnn6")
    engine = engines.create(lambda: model, model, "x", folder=tmp_path)
    assert engine.name == "folded"
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "openvino isn't installed" in told[0]
    assert "onnxruntime isn't installed" in told[0]
    assert "pannslib[fast]" in told[0]


def test_a_network_that_cannot_be_traced_is_computed_all_the_same(monkeypatch, capsys, tmp_path):
    def fail(*_, **__):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(graphs, "trace", fail)
    model = small("Cnn6")
    assert engines.create(lambda: model, model, "x", folder=tmp_path).name == "folded"
    assert "can't take Cnn6 (RuntimeError: no such operator)" in capsys.readouterr().err


def test_the_fast_path_can_be_switched_off_and_wrong_names_are_told(tmp_path):
    model = small("Cnn6")
    tagger = AudioTagger(model, engine="torch")
    assert tagger.engine.name == "torch"
    assert isinstance(tagger.engine.model.log_mel, LogMel)
    for words, options in {
        "engine is 'tensorrt'": {"engine": "tensorrt"},
        "fp32 or bf16": {"precision": "tf32"},
        "in fp32; asked was bf16": {"engine": "onnxruntime", "precision": "bf16"},
    }.items():
        with pytest.raises(ModelError, match=words):
            AudioTagger(model, **options)


def test_engine_files_are_kept_by_the_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("PANNS_CACHE", str(tmp_path))
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = models.create_model("Cnn6", classes=2, width=0.0625)
        models.save_checkpoint(model, tmp_path / f"{seed}.safetensors", labels=["a", "b"])
    clip = speed.noise(1, 1, 32_000)[0]
    first = AudioTagger(checkpoint=tmp_path / "1.safetensors").tag(clip)
    assert not first.equals(AudioTagger(checkpoint=tmp_path / "2.safetensors").tag(clip))
    assert sum(path.is_dir() for path in (tmp_path / "engines").iterdir()) == 2
    # from now on the weights aren't even loaded; a damaged file is made again
    tagger = AudioTagger(checkpoint=tmp_path / "1.safetensors")
    assert "model" not in vars(tagger)
    assert tagger.tag(clip).equals(first)
    for path in tmp_path.rglob("openvino_fp32.xml"):
        path.write_bytes(b"no graph")
    AudioTagger(checkpoint=tmp_path / "1.safetensors")
    assert AudioTagger(checkpoint=tmp_path / "1.safetensors").tag(clip).equals(first)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        AudioTagger(checkpoint=tmp_path / "3.safetensors")


def test_the_speed_table_says_what_was_measured():
    table = speed.compare("LeeNet11", ways=(("torch", "fp32"), ("onnxruntime", "fp32")), seconds=0.5, repeats=2)
    assert table["engine"].tolist() == ["published", "torch", "onnxruntime"]
    assert table.loc[0, "times_faster"] == 1
    assert (table["largest_difference"] < 1e-4).all()
    assert (table["share_of_matrix_rate"] > 0).all()


def test_a_recording_of_minutes_stays_within_its_memory(tmp_path):
    """Ten minutes take no more memory than two do: both are in a process of their own."""
    code = """
import sys, numpy as np, soundfile
from pannslib import SoundEventDetector, models, results
model = models.create_model("Cnn14_DecisionLevelMax", classes=2, width=0.03125, mel_bins=32).eval()
with soundfile.SoundFile("long.wav", "w", 16000, 1) as file:
    for minute in range(int(sys.argv[1])):
        file.write(np.random.default_rng(minute).uniform(-0.1, 0.1, 60 * 16000))
SoundEventDetector(model).detect("long.wav", 0.5, progress=False)
print(results.peak_memory_mib())
"""
    peaks = []
    for minutes in (2, 10):
        call = [sys.executable, "-c", code, str(minutes)]
        done = subprocess.run(call, capture_output=True, text=True, check=True, cwd=tmp_path, env=dict(os.environ))
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 60  # MiB; the waveform alone is 37 MiB more at each copy
    assert peaks[1] < 1024
