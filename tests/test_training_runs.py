"""The catalogue's networks: trained, read, killed and gone on with, stopped, trained by two processes together."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pannslib import audio, audioset_runs, catalogue, files, metrics, models, profiles, reference, training
from pannslib.errors import DataError, ResultError
from pannslib.models import registry


@pytest.fixture
def trained(home):
    return training.run(catalogue.plan("smoke"))


def panns(*arguments, **environment):
    call = [sys.executable, "-m", "pannslib", *map(str, arguments)]
    return subprocess.Popen(
        call, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def longer(tmp_path, **optimisation):
    """The smoke profile with more iterations, so that there is time to kill it."""
    content = yaml.safe_load((profiles.FOLDER / "smoke.yaml").read_text())
    content["training"]["optimisation"] |= {"iterations": 60, **optimisation}
    content["training"]["evaluate_every"] = 10
    path = tmp_path / "longer.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_run_is_read_when_it_is_there(trained):
    written = trained.checkpoint.stat().st_mtime_ns
    again = training.run(catalogue.plan("smoke"))
    assert again.checkpoint.stat().st_mtime_ns == written
    read = training.result(catalogue.plan("smoke"))
    assert read.curve.equals(trained.curve)


def test_what_a_run_leaves(trained):
    assert list(trained.curve["split"]) == ["balanced_train", "eval"] * 2
    assert list(trained.evaluations["iteration"]) == [4, 8]
    assert list(trained.losses["iteration"]) == [8]
    assert trained.scores.shape == trained.targets.shape == (len(trained.clips), len(trained.classes))
    assert trained.chance == pytest.approx(trained.targets.mean())
    assert trained.classes["ap"].dropna().between(0, 1).all()
    last = trained.class_curves[trained.class_curves["iteration"] == 8]
    assert np.allclose(last["ap"], trained.classes["ap"], equal_nan=True)
    assert trained.map == pytest.approx(trained.classes["ap"].mean())
    assert np.allclose(trained.classes["d_prime"], metrics.d_prime(trained.classes["auc"]), equal_nan=True)
    aucs = pd.read_csv(trained.run.file("class_auc.csv"))
    assert list(aucs["iteration"]) == [4, 8]
    assert np.allclose(aucs.iloc[-1, 1:], trained.classes["auc"], equal_nan=True)
    assert trained.checkpoint.stat().st_mode == trained.run.file("inputs.json").stat().st_mode
    network = models.create_model("Cnn14", classes=len(trained.classes), width=0.0625)
    models.load_checkpoint(network, trained.checkpoint)
    assert trained.parameters == sum(p.numel() for p in network.parameters())
    assert any((trained.run.path / "tensorboard").iterdir())


def test_a_run_that_is_not_there_is_said_to_be(home, tmp_path):
    path = tmp_path / "never.yaml"
    path.write_text((profiles.FOLDER / "smoke.yaml").read_text())
    with pytest.raises(ResultError, match="panns train train_cnn6"):
        training.result(catalogue.plan(path), "train_cnn6")


def test_every_row_and_curve_of_the_paper_has_a_run():
    for table, rows in audioset_runs.PAPER_ROWS.items():
        assert len(rows) == len(reference.table(table))
        assert set(rows) <= set(audioset_runs.RUNS)
    series = pd.read_csv(reference.FOLDER / "figures" / "fig_04_series.csv")
    assert set(audioset_runs.FIGURE_4) == set(zip(series["panel"], series["series"], strict=True))
    named = {run for rows in audioset_runs.PAPER_ROWS.values() for run in rows} | set(audioset_runs.FIGURE_4.values())
    assert named | {audioset_runs.EVENTS} == set(audioset_runs.RUNS)


def test_a_share_is_nested_and_keeps_every_class(trained):
    plan = catalogue.plan("smoke")
    packed = plan.packed("audioset")
    settings = plan.settings("train_cnn14")
    shares = [training.training_rows(packed, settings.model_copy(update={"share": s}), 7) for s in (0.5, 0.8, 1.0)]
    assert len(shares[0]) < len(shares[1]) < len(shares[2])
    assert set(shares[1]) <= set(shares[2])
    for rows in shares:
        assert packed.targets[rows].any(0).sum() == packed.targets[shares[2]].any(0).sum()
    small = training.training_rows(packed, settings.model_copy(update={"training_set": "balanced"}), 7)
    assert set(packed.splits[small]) == {"balanced_train"}


class Tones:
    """What `ClipSource` reads of packed clips: one with a tone of 3 kHz, one with 11 kHz, which 16 kHz can't hold."""

    def __init__(self, folder):
        time_s = np.arange(32_000) / 32_000
        self.waves = np.stack([0.5 * np.sin(2 * np.pi * f * time_s) for f in (3_000, 11_000)]).astype(np.float32)
        self.sample_rate, self.fingerprint, self.path = 32_000, "tones", folder / "tones.h5"
        self.names, self.waveforms = ["low", "high"], audio.to_int16(self.waves)

    def read_int16(self, indices):
        return self.waveforms[np.asarray(indices)]

    def read(self, indices):
        return audio.from_int16(self.read_int16(indices))


def test_lower_rates_are_resampled_or_decimated(tmp_path):
    network = models.create_model("Cnn14_16k", classes=2, width=0.0625)
    means = {}
    for resampling in ("resample", "decimate"):
        source = training.ClipSource(Tones(tmp_path), network, 1.0, torch.device("cpu"), resampling)
        means[resampling] = source.mean_log_mels()
    # the tone above half the rate is gone, or comes back folded to 5 kHz
    assert means["resample"][1].max() < means["resample"][0].max() - 40
    assert means["decimate"][1].max() > means["decimate"][0].max() - 10


def test_log_mels_are_computed_once(tmp_path):
    network = models.create_model("Cnn6", classes=2, width=0.0625)
    tones = Tones(tmp_path)
    first = training.ClipSource(tones, network, 1.0, torch.device("cpu"))
    stored = list((tmp_path / "log_mels").glob("*.npy"))
    assert len(stored) == 1
    written = stored[0].stat().st_mtime_ns
    second = training.ClipSource(tones, network, 1.0, torch.device("cpu"))
    assert stored[0].stat().st_mtime_ns == written
    direct = network.log_mel(torch.from_numpy(tones.read([1])))
    assert torch.equal(second.batch(np.array([1]))["log_mel"], direct)
    assert torch.equal(first.batch(np.array([1]))["log_mel"], direct)
    training.ClipSource(tones, models.create_model("Cnn14_mel32", classes=2, width=0.0625), 1.0, torch.device("cpu"))
    assert len(list((tmp_path / "log_mels").glob("*.npy"))) == 2


FULL = """
import resource, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_training_runs import Tones, models, training
network = models.create_model("Cnn6", classes=2, width=0.0625)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    training.ClipSource(Tones(Path(sys.argv[2])), network, 1.0, torch.device("cpu"))
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_log_mels_that_the_disk_has_no_room_for_are_told_beforehand(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", FULL, os.path.dirname(__file__), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith("DataError: ")
    assert "of 0.1 MiB could not be written: file too large" in ended.stdout
    assert str(tmp_path / "log_mels") in ended.stdout


def test_half_written_log_mels_of_a_killed_run_are_swept(tmp_path):
    network = models.create_model("Cnn6", classes=2, width=0.0625)
    training.ClipSource(Tones(tmp_path), network, 1.0, torch.device("cpu"))
    (stored,) = (tmp_path / "log_mels").glob("*.npy")
    before = stored.read_bytes()
    stored.rename(stored.with_name(f".{stored.stem}.0123456789ab.part.npy"))
    training.ClipSource(Tones(tmp_path), network, 1.0, torch.device("cpu"))
    assert list((tmp_path / "log_mels").glob("*.npy")) == [stored]
    assert stored.read_bytes() == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of a run of 60 iterations that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    process = panns("train", "--profile", longer(folder), PANNS_HOME=str(folder))
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "mAP" in output
    return folder / "runs" / "longer" / "train_cnn14"


def wait_for(condition, process):
    limit = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_killed_at_any_moment_it_ends_with_the_same_weights(whole, tmp_path):
    profile, run = longer(tmp_path), tmp_path / "runs" / "longer" / "train_cnn14"
    for number in range(3):
        process = panns("train", "--profile", profile, PANNS_HOME=str(tmp_path))
        seen = (run / "state.pt").stat().st_mtime_ns if (run / "state.pt").is_file() else 0

        def further(seen=seen):
            return (run / "state.pt").is_file() and (run / "state.pt").stat().st_mtime_ns > seen

        wait_for(further, process)
        time.sleep(0.07 * number)
        process.kill()
        process.communicate()
    process = panns("train", "--profile", profile, PANNS_HOME=str(tmp_path))
    assert process.wait(timeout=300) == 0, process.communicate()
    for file in ("checkpoint.safetensors", "curve.csv", "classes.csv", "losses.csv"):
        assert (run / file).read_bytes() == (whole / file).read_bytes(), file


def test_ctrl_c_leaves_usable_weights_and_goes_on(whole, tmp_path):
    profile, run = longer(tmp_path), tmp_path / "runs" / "longer" / "train_cnn14"
    process = panns("train", "--profile", profile, PANNS_HOME=str(tmp_path))
    wait_for(lambda: (run / "curve.csv").is_file(), process)
    (run / ".state.0123456789ab.part.pt").write_text("left by a killed run")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    assert load_file(run / "stopped.safetensors")
    assert (run / "stopped.safetensors").stat().st_mode == (run / "inputs.json").stat().st_mode
    assert pd.read_csv(run / "curve.csv")["iteration"].iloc[0] == 10
    assert pd.read_csv(run / "losses.csv")["iteration"].iloc[0] == 10
    process = panns("train", "--profile", profile, PANNS_HOME=str(tmp_path))
    assert process.wait(timeout=300) == 0, process.communicate()
    assert (run / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()
    assert not (run / "stopped.safetensors").exists()
    assert not list(run.glob(".state.*"))


def test_a_torn_state_is_named(whole, tmp_path):
    profile, run = longer(tmp_path), tmp_path / "runs" / "longer" / "train_cnn14"
    process = panns("train", "--profile", profile, PANNS_HOME=str(tmp_path))
    wait_for(lambda: (run / "state.pt").is_file(), process)
    process.kill()
    process.communicate()
    content = (run / "state.pt").read_bytes()
    (run / "state.pt").write_bytes(content[: len(content) // 3])
    process = panns("train", "--profile", profile, PANNS_HOME=str(tmp_path))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "state.pt can't be gone on from" in errors
    assert "Traceback" not in errors


TWO_PROCESSES = """
import json, sys
from pathlib import Path
import torch
from pannslib import catalogue, training
from pannslib.training import devices, runs

out = Path(sys.argv[1])
drawn, networks = [], []
make = runs.samplers.make_sampler

def watched(*arguments, **options):
    sampler = make(*arguments, **options)
    draw = sampler.draw
    sampler.draw = lambda count: (drawn.append(draw(count)), drawn[-1])[1]
    return sampler

runs.samplers.make_sampler = watched
plain = runs._Training.finish

def finish(self, resumed):
    plain(self, resumed)
    networks.append(self.network)

runs._Training.finish = finish
plan = catalogue.plan(sys.argv[2])
result = training.run(plan, "train_cnn14_nobal_nomixup")
rank = devices.world()[0]
state = {name: value.double().sum().item() for name, value in networks[0].state_dict().items()}
clips = [int(index) for batch in drawn for index in batch]
(out / f"process_{rank}.json").write_text(json.dumps({"clips": clips, "state": state, "map": result.map}))
"""


def test_two_processes_share_the_clips_and_end_with_equal_weights(tmp_path):
    """Real processes under torchrun, gloo on CPU; a batch of 16 is 8 clips for each of them."""
    profile = longer(tmp_path, iterations=10, batch_size=16)
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(TWO_PROCESSES))
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = os.environ | {"PANNS_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*call, str(tmp_path), str(profile)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"process_{rank}.json").read_text()) for rank in (0, 1))
    assert len(first["clips"]) == len(second["clips"]) == 80
    together = first["clips"] + second["clips"]
    assert len(set(together)) == len(together)  # 160 of 172 clips: not an epoch yet
    assert first["state"] == second["state"]
    assert first["map"] == second["map"]
    run = tmp_path / "runs" / "longer" / "train_cnn14_nobal_nomixup"
    assert [path.name for path in run.rglob("*.safetensors")] == ["checkpoint.safetensors"]
    assert files.read_json(run / "summary.json")["processes"] == 2


def test_torchrun_with_the_command_line(tmp_path):
    """The documented call, with a network some of whose parameters are never used."""
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pannslib"]
    arguments = ["train", "train_wavegram_cnn14", "--profile", "smoke"]
    environment = os.environ | {"PANNS_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*call, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("Everything is in") == 1
    assert registry.skeleton("Wavegram_Cnn14").unused_parameters


def test_data_that_change_in_training_are_noticed(home, tmp_path):
    made = catalogue.plan("smoke").dataset("audioset").root
    root = tmp_path / "raw" / "audioset"
    shutil.copytree(made, root)
    (root / "miniature.json").unlink()  # now it counts as somebody's own recordings
    plan = catalogue.plan("smoke", tmp_path)
    clip = next(root.rglob("Y*.wav"))
    with pytest.raises(DataError, match="changed since the run began"):
        training.run(plan, "train_cnn6", watch=lambda curve: os.utime(clip, (1, 1)))
    assert not (plan.runs / "train_cnn6" / "summary.json").exists()
