"""The ONNX file: runs without PyTorch at another batch and length, holds its labels, is kept only if it is right."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from pannslib import export, models
from pannslib.errors import ModelError
from pannslib.inference import graphs, speed

# what a user without PyTorch does
RUN = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "pannslib"):
            raise ImportError(name)
sys.meta_path.insert(0, NoTorch())
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
waveform = np.load("waveform.npy")
np.savez("out.npz", **dict(zip([o.name for o in session.get_outputs()], session.run(None, {"waveform": waveform}))))
try:
    import torch
except ImportError:
    print("no torch")
"""


@pytest.mark.parametrize("name", ["Cnn14_DecisionLevelMax", "MobileNetV2", "Wavegram_Logmel_Cnn14"])
def test_the_file_runs_without_pytorch_at_another_batch_and_length(name, tmp_path):
    torch.manual_seed(0)
    model = models.create_model(name, classes=4, width=0.0625).eval()
    report = export.to_onnx(model, tmp_path / "model.onnx", ("a", "b", "c", "ñ"))
    assert all(check["largest_difference"] <= export.TOLERANCE for check in report["checks"])
    waveform = speed.noise(2, 3.217, model.sample_rate)
    np.save(tmp_path / "waveform.npy", waveform)
    call = [sys.executable, "-c", RUN]
    result = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert result.stdout.strip() == "no torch"
    with torch.inference_mode():
        expected = model(torch.from_numpy(waveform))
    with np.load(tmp_path / "out.npz") as given:
        assert sorted(given) == sorted(report["outputs"])
        for output in given:
            np.testing.assert_allclose(given[output], getattr(expected, output), atol=1e-5)
    texts = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(texts["labels"]) == ["a", "b", "c", "ñ"]
    assert texts["sample_rate"] == "32000"


def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    model = models.create_model("Cnn6", classes=2, width=0.0625)
    write = graphs.write

    def other(model, path, whole):
        torch.nn.init.ones_(model.fc_audioset.bias)
        graph = write(model, path, whole)
        torch.nn.init.zeros_(model.fc_audioset.bias)
        return graph

    monkeypatch.setattr(graphs, "write", other)
    with pytest.raises(ModelError, match="differs from PyTorch"):
        export.to_onnx(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told(tmp_path, monkeypatch):
    model = models.create_model("Cnn6", classes=2, width=0.0625)
    with pytest.raises(ModelError, match=r"\.onnx"):
        export.to_onnx(model, tmp_path / "model.pt")
    monkeypatch.setattr(export.engines, "installed", lambda package: False)
    with pytest.raises(ModelError, match="onnx and onnxruntime"):
        export.to_onnx(model, tmp_path / "model.onnx")
