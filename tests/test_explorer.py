"""The explorers: what they compute, their widgets moved from Python, in a kernel that nobody watches, and in a browser.

The last part needs selenium and Chromium with its driver, and is skipped where they aren't.
"""

import base64
import importlib.util
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest
import soundfile

from pannslib import AudioTagger, SoundEventDetector, audioset_runs, catalogue, explorer, metrics, models, training
from pannslib.errors import AudioError, ModelError, ResultError
from pannslib.explorer import clips as clips_module
from pannslib.explorer import frontend
from pannslib.explorer.clips import RATE

BASE, EVENTS = catalogue.PRETRAINING, audioset_runs.EVENTS


@pytest.fixture(scope="module")
def trained_home(tmp_path_factory):
    """A home in which the base run and the one for sound events have been trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PANNS_HOME", str(tmp_path_factory.mktemp("explored")))
        plan = catalogue.plan("smoke")
        for run in (BASE, EVENTS):
            training.run(plan, run)
        yield Path(os.environ["PANNS_HOME"])


@pytest.fixture(scope="module")
def plan(trained_home):
    return catalogue.plan("smoke")


@pytest.fixture(scope="module")
def detector(plan):
    return SoundEventDetector(checkpoint=training.result(plan, EVENTS).checkpoint, engine="torch")


@pytest.fixture(scope="module")
def tagger(plan):
    return AudioTagger(checkpoint=training.result(plan, BASE).checkpoint, engine="torch")


@pytest.fixture
def clips(plan):
    return explorer.ClipExplorer.of_plan(plan)


@pytest.fixture
def classes(plan):
    return explorer.ResultsExplorer(plan, draws=50)


def tone(seconds: float, rate: int = 44_100, hertz: float = 440) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def wav(seconds: float, rate: int = 44_100) -> bytes:
    """A stereo WAV of a tone."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([tone(seconds, rate)] * 2, axis=1), rate, format="WAV")
    return buffer.getvalue()


# --- rolls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.1, 1.0, 3.3])
def test_events_of_a_roll_are_those_of_the_detector(detector, seconds):
    waveform = tone(seconds, RATE) * np.linspace(0, 1, round(seconds * RATE), dtype=np.float32)
    roll = explorer.roll_of(detector, waveform)
    assert roll.edges[0] == 0
    assert roll.edges[-1] == pytest.approx(seconds)
    assert (np.diff(roll.edges) > 0).all()
    for threshold in (float(np.median(roll.probabilities)), 0.0, 1.0):
        found, expected = roll.events(threshold), detector.detect((waveform, RATE), threshold=threshold)
        columns = ["onset_s", "label"]
        pd.testing.assert_frame_equal(
            found.sort_values(columns, ignore_index=True),
            pd.DataFrame(expected).sort_values(columns, ignore_index=True),
            check_dtype=False,
            atol=1e-6,
        )


def test_a_network_of_whole_clips_judges_each_half_second(tagger):
    waveform = np.concatenate([tone(1.6, RATE), np.zeros(RATE, np.float32)])
    roll = explorer.roll_of(tagger, waveform)
    assert roll.edges.tolist() == pytest.approx([0, 0.5, 1.0, 1.5, 2.0, 2.6])
    # the step from 0.5 to 1.0 s is judged by 0.25 to 1.25 s, the last by the last second
    for step, start in ((1, 0.25), (4, 1.6)):
        part = waveform[round(start * RATE) : round((start + 1) * RATE)]
        assert np.allclose(roll.probabilities[step], tagger.probabilities((part, RATE)), atol=1e-6)
    short = explorer.roll_of(tagger, waveform[: RATE // 2])
    assert short.edges.tolist() == [0, 0.5]
    assert np.allclose(short.probabilities[0], tagger.probabilities((waveform[: RATE // 2], RATE)), atol=1e-6)


def test_a_threshold_that_is_no_probability(detector):
    roll = explorer.roll_of(detector, tone(1, RATE))
    with pytest.raises(ModelError, match="from 0 to 1"):
        roll.events(1.2)
    assert roll.of("no such class").tolist() == [0] * len(roll.probabilities)


# --- clips -----------------------------------------------------------------------------------------------------


def test_the_evaluation_clips_are_those_that_networks_are_tested_on(plan):
    found = explorer.EvaluationClips(plan)
    result = training.result(plan, BASE)
    assert found.names == result.clips
    assert np.array_equal(found.targets, result.targets)
    label = found.classes[int(found.targets.sum(0).argmax())]
    listed = found.of_class(label)
    assert listed
    assert all(label in found.labels(name) for name in listed)
    assert len(listed) == found.targets[:, found.classes.index(label)].sum()
    sound = found.sound(listed[0])
    assert sound.seconds == pytest.approx(plan.settings(BASE).seconds)
    assert set(sound.events.columns) == {"label", "onset_s", "offset_s"}
    assert (sound.events["onset_s"] < sound.seconds).all()


def test_what_is_long_is_cut_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(clips_module, "LONGEST_S", 2.0)
    path = tmp_path / "long.wav"
    path.write_bytes(wav(3))
    sound = explorer.sound_of_file(path)
    assert (sound.seconds, sound.name) == (2.0, "long.wav")
    assert "Longer than 2 s" in sound.remark
    assert explorer.sound_of_bytes(wav(1.5), "C:\\sounds\\größe <b>.wav").name == "größe <b>.wav"


def test_a_bad_upload_is_told_by_its_own_name():
    with pytest.raises(AudioError, match=r"^nonsense\.mp3 ") as told:
        explorer.sound_of_bytes(b"nonsense", "nonsense.mp3")
    assert "upload" not in str(told.value)


# --- the clip explorer -------------------------------------------------------------------------------------------


def test_the_network_for_sound_events_comes_first(clips, plan):
    titles = [training.result(plan, run).title for run in (EVENTS, BASE)]
    assert list(clips.models)[:2] == titles
    assert [clips.first, clips.second] == titles
    assert isinstance(clips.predictor(titles[0]), SoundEventDetector)
    assert isinstance(clips.predictor(titles[1]), AudioTagger)


def test_without_a_network_it_says_which_to_train(home):
    with pytest.raises(ResultError, match=f"panns train {EVENTS}"):
        explorer.ClipExplorer.of_plan(catalogue.plan("smoke"))
    with pytest.raises(ModelError, match="at least one"):
        explorer.ClipExplorer({})


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"rows": 2}])
def test_options_out_of_range(detector, options):
    with pytest.raises(ModelError, match="must be"):
        explorer.ClipExplorer({"events": detector}, **options)


def test_the_numbers_are_on_one_time_axis(clips):
    numbers, waveform = clips.numbers(), clips.sound.waveform
    assert np.allclose(np.diff(numbers["time_s"]), 0.01)
    assert numbers["amplitude_high"].max() == waveform.max()
    assert numbers["amplitude_low"].min() == waveform.min()
    for name, roll in clips.rolls().items():
        label = clips.sound.labels[0]
        assert numbers[f"{name}: {label}"].iloc[0] == pytest.approx(roll.of(label)[0])
        assert numbers[f"{name}: {label}"].iloc[-1] == pytest.approx(roll.of(label)[-1])


def test_the_picture_has_one_time_axis(clips):
    figure = clips.figure()
    limits = [ax.get_xlim() for ax in figure.axes[:4]]
    assert limits == [(0, clips.sound.seconds)] * 4
    lefts = {round(ax.get_position().x0, 6) for ax in figure.axes[:4]}
    rights = {round(ax.get_position().x1, 6) for ax in figure.axes[:4]}
    assert len(lefts) == len(rights) == 1
    clips.second = "none"
    assert len(clips.figure().axes) == len(figure.axes) - 1


@pytest.mark.parametrize("rows", [3, 20])
def test_nothing_of_the_picture_is_cut_off(clips, rows):
    clips.rows = rows
    figure = clips.figure()
    figure.draw_without_rendering()
    box = figure.bbox
    for ax in figure.axes:
        tight = ax.get_tightbbox()
        assert min(tight.x0, tight.y0) >= 0, ax.get_title()
        assert max(tight.x1 - box.width, tight.y1 - box.height) <= 0, ax.get_title()


def test_moving_the_threshold_changes_what_is_shown(clips):
    clips.widget()
    parts = clips.controls
    pictures = [parts["picture"].value]
    parts["threshold"].value = 1.0
    pictures.append(parts["picture"].value)
    assert ">0 events at or above 1.00" in parts["events"].value
    parts["threshold"].value = 0.0
    pictures.append(parts["picture"].value)
    assert ">0 events" not in parts["events"].value
    assert len(set(pictures)) == 3
    assert all(bytes(picture).startswith(b"\x89PNG") for picture in pictures)
    assert not parts["message"].value


def test_another_class_lists_its_clips_and_plays_the_first(clips):
    clips.widget()
    parts = clips.controls
    before = parts["player"].value
    label = parts["of_class"].options[3]
    parts["of_class"].value = label
    names = [name for _, name in parts["clip"].options]
    assert names == clips.clips.of_class(label)
    assert clips.sound.name == parts["clip"].value == names[0]
    assert label in clips.sound.labels
    assert parts["player"].value != before
    sound, rate = soundfile.read(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", parts["player"].value)[1])))
    assert len(sound) / rate == pytest.approx(clips.sound.seconds, abs=0.05)


def test_another_network_and_more_classes_change_the_picture(clips):
    clips.widget()
    parts = clips.controls
    pictures = [parts["picture"].value]
    for name, value in (("second", "none"), ("first", list(clips.models)[1]), ("rows", 15)):
        parts[name].value = value
        pictures.append(parts["picture"].value)
    assert len(set(pictures)) == 4
    assert list(clips.rolls()) == [list(clips.models)[1]]


def test_an_uploaded_sound_is_shown_and_a_bad_one_is_told(clips):
    clips.widget()
    parts = clips.controls

    def upload(name: str, content: bytes) -> None:
        file = {"name": name, "content": memoryview(content), "size": len(content), "type": "audio/wav"}
        parts["upload"].value = ({**file, "last_modified": pd.Timestamp("2026-01-01", tz="UTC").to_pydatetime()},)

    upload("<i>ton.wav", wav(2.5))
    assert clips.sound.name == "<i>ton.wav"
    assert clips.sound.seconds == pytest.approx(2.5)
    assert "&lt;i&gt;ton" in parts["player"].value
    assert parts["clip"].value is None
    assert parts["upload"].value == ()
    assert "in the clip" not in clips.events()
    picture = parts["picture"].value
    upload("bad.wav", b"nonsense")
    assert "bad.wav" in parts["message"].value
    assert parts["picture"].value == picture
    assert clips.sound.name == "<i>ton.wav"
    parts["clip"].value = parts["clip"].options[0][1]
    assert clips.sound.name == parts["clip"].value
    assert not parts["message"].value


def test_a_file_by_its_path(clips, tmp_path):
    clips.widget()
    parts = clips.controls
    parts["path"].value = str(tmp_path / "nowhere.wav")
    assert "nowhere.wav" in parts["message"].value
    path = tmp_path / "ton.wav"
    path.write_bytes(wav(0.1))
    parts["path"].value = str(path)
    assert clips.sound.name == "ton.wav"
    assert not parts["message"].value


def test_without_clips_it_waits_for_a_sound(detector):
    alone = explorer.ClipExplorer({"events": detector})
    alone.widget()
    assert "Upload a sound file" in alone.controls["message"].value
    with pytest.raises(ResultError, match="upload"):
        alone.figure()
    alone.controls["threshold"].value = 0.5
    assert "Upload a sound file" in alone.controls["message"].value
    alone.upload(wav(1), "ton.wav")
    assert alone.figure().axes


# --- the results explorer ----------------------------------------------------------------------------------------


def test_the_ap_of_a_class_in_every_system(classes, plan):
    table = classes.class_ap()
    assert set(table["run"]) == {BASE, EVENTS}
    assert table["AP"].is_monotonic_decreasing
    for run, ap in zip(table["run"], table["AP"], strict=True):
        known = training.result(plan, run).classes.set_index("label").loc[classes.label, "ap"]
        assert ap == pytest.approx(known)
    assert (table["AP, 95 % low"] <= table["AP, 95 % high"]).all()
    column = classes.labels.index(classes.label)
    result = training.result(plan, BASE)
    low, _ = metrics.interval(metrics.bootstrap(result.targets, result.scores, 50)["ap"][:, column])
    assert table.set_index("run").loc[BASE, "AP, 95 % low"] == pytest.approx(low)


def test_best_and_worst_clips(classes, plan):
    result, table = training.result(plan, BASE), classes.best_and_worst()
    column = classes.labels.index(classes.label)
    scores = pd.Series(result.scores[:, column], index=result.clips)
    has = pd.Series(result.targets[:, column], index=result.clips)
    expected = {
        "has it, highest scores": scores[has].nlargest(3),
        "has it, lowest scores": scores[has].nsmallest(3),
        "lacks it, highest scores": scores[~has].nlargest(3),
    }
    for kind, values in expected.items():
        part = table[table["clips"] == kind]
        assert part["rank"].tolist() == list(range(1, len(values) + 1))
        assert np.allclose(part["probability"], 1 / (1 + np.exp(-values.to_numpy(np.float64))))
        for row in part.itertuples():
            assert (classes.label in row.labels.split("; ")) == kind.startswith("has")


def test_another_class_or_system_changes_what_is_shown(classes):
    classes.widget()
    parts = classes.controls
    before = parts["picture"].value, parts["clips"].value
    parts["label"].value = parts["label"].options[0]
    assert classes.label == parts["label"].options[0]
    between = parts["picture"].value, parts["clips"].value
    parts["system"].value = next(name for name in parts["system"].options if name != classes.system)
    after = parts["picture"].value, parts["clips"].value
    assert len({first for first, _ in (before, between, after)}) == 3
    assert len({second for _, second in (before, between, after)}) == 3
    assert parts["clips"].value.count("<audio") == len(classes.best_and_worst())


def test_a_class_that_is_not_there(classes):
    label = classes.label
    with pytest.raises(ModelError, match="no class 'Quiet'"):
        classes.choose(label="Quiet")
    with pytest.raises(ModelError, match="no system"):
        classes.choose(system="Cnn99")
    assert classes.label == label


# --- without a frontend ------------------------------------------------------------------------------------------


def test_outside_of_jupyter_nothing_answers(monkeypatch):
    assert not explorer.is_interactive()


def test_tables_are_escaped():
    frame = pd.DataFrame({"clip": ["<script>"], "listen": ["<audio></audio>"], "probability": [0.25]})
    made = frontend.table_html(frame, raw=("listen",))
    assert "&lt;script&gt;" in made
    assert "<audio></audio>" in made
    assert "0.25" in made


CELLS = """
from pannslib import catalogue, explorer
print("interactive:", explorer.is_interactive())
plan = catalogue.plan("smoke")
explorer.ClipExplorer.of_plan(plan).show()
explorer.ResultsExplorer(plan, draws=50).show()
"""


def test_in_a_kernel_that_nobody_watches_it_leaves_pictures_and_players(trained_home):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELLS)])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=300).execute()
    outputs = notebook.cells[0].outputs
    assert "interactive: False" in "".join(output.get("text", "") for output in outputs)
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2
    assert not [kind for kind in kinds if "widget" in kind]
    pages = "".join(output["data"].get("text/html", "") for output in outputs if "data" in output)
    assert pages.count("<audio") > 3


# --- in a browser ------------------------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1400,3600"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
# a file is chosen without the dialog, which no program can reach: the input that it belongs to is put into the page
NO_DIALOG = """
const click = HTMLElement.prototype.click;
HTMLInputElement.prototype.click = function () {
  if (this.type !== "file") return click.call(this);
  document.querySelectorAll("input.chosen").forEach(input => input.remove());
  this.className = "chosen";
  this.style.display = "block";
  document.body.appendChild(this);
};
"""


@pytest.fixture(scope="module")
def lab(trained_home, tmp_path_factory):
    """The address of a JupyterLab whose folder holds the notebook `explore.ipynb`."""
    folder = tmp_path_factory.mktemp("lab")
    cells = [nbformat.v4.new_code_cell(CELLS)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # else it asks for a kernel
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "explore.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment = {key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "PANNS_PROGRESS")} | own
    call = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}"]
    call += ["--ServerApp.token=open", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(call, env=environment, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            limit = time.monotonic() + 300
            while True:
                assert server.poll() is None, (folder / "lab.log").read_text()
                try:
                    urllib.request.urlopen(f"{address}/api?token=open", timeout=5)
                    break
                except OSError:
                    assert time.monotonic() < limit, (folder / "lab.log").read_text()
                    time.sleep(0.3)
            yield f"{address}/lab/tree/explore.ipynb?token=open"
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def browser(tmp_path):
    if not (importlib.util.find_spec("selenium") and CHROMIUM and DRIVER):
        pytest.skip("needs selenium (pip install selenium), Chromium and chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    # a window that nobody looks at has no focus, and without one Lab has no current notebook
    driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    yield driver
    driver.quit()


def test_in_a_real_jupyterlab_in_a_real_browser(browser, request, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select, WebDriverWait

    def wait(condition):
        what = f"waited in vain, line {condition.__code__.co_firstlineno}"
        return WebDriverWait(browser, 120, ignored_exceptions=[Exception]).until(lambda _: condition(), what)

    def script(text: str):
        return browser.execute_script(text)

    def all_of(selector: str) -> list:
        return browser.find_elements(By.CSS_SELECTOR, selector)

    def picture(kind: str) -> str:
        return script(f"return document.querySelector('.panns-{kind}-explorer img').src")

    browser.get(request.getfixturevalue("lab"))
    wait(lambda: script("return document.querySelector('.jp-Notebook .jp-Cell') && !!window.jupyterapp"))
    notebook = "[...window.jupyterapp.shell.widgets('main')].find(widget => widget.sessionContext)"
    wait(lambda: script(f"return {notebook}.sessionContext.session.kernel.status") == "idle")
    all_of(".jp-Notebook .jp-Cell .cm-content")[0].click()
    wait(lambda: script("return window.jupyterapp.shell.currentWidget?.sessionContext?.path") == "explore.ipynb")
    script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    wait(lambda: script("return document.querySelectorAll('.panns-results-explorer audio').length") >= 3)
    assert "interactive: True" in browser.find_element(By.CSS_SELECTOR, ".jp-OutputArea").text

    # pictures and players are loaded, and nothing is wider than its place
    images = "[...document.querySelectorAll('.panns-clip-explorer img, .panns-results-explorer img')]"
    wait(lambda: script(f"return {images}.every(image => image.naturalWidth > 800)"))
    players = "[...document.querySelectorAll('.panns-clip-explorer audio, .panns-results-explorer audio')]"
    wait(lambda: script(f"return {players}.every(player => player.readyState > 0 && player.duration > 0.5)"))
    wide = (
        "return [...document.querySelectorAll('.panns-clip-explorer, .panns-clip-explorer *, .panns-results-explorer')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX))"
    )
    assert script(wide + ".map(e => e.className)") == []

    before = picture("clip")
    handle = all_of(".panns-clip-explorer .noUi-handle")[0]
    for _ in range(10):
        handle.send_keys(Keys.ARROW_RIGHT)
    wait(lambda: picture("clip") != before)
    wait(lambda: "at or above 0.40" in all_of(".panns-clip-explorer")[0].text)

    def selects(kind: str) -> list:
        return [Select(element) for element in all_of(f".panns-{kind}-explorer select")]

    before = picture("clip")
    selects("clip")[3].select_by_visible_text("none")  # class, clip, network, the one that is compared
    wait(lambda: picture("clip") != before)

    path = tmp_path / "ton ñ.wav"
    path.write_bytes(wav(2))
    script(NO_DIALOG)
    all_of(".panns-clip-explorer button.widget-upload")[0].click()
    wait(lambda: all_of("input.chosen"))[0].send_keys(str(path))
    wait(lambda: "ton ñ.wav" in all_of(".panns-clip-explorer")[0].text)
    wait(lambda: script("return Math.abs(document.querySelector('.panns-clip-explorer audio').duration - 2) < 0.1"))

    before = picture("results")
    selects("results")[0].select_by_index(1)
    wait(lambda: picture("results") != before)
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [entry for entry in severe if "widget" in entry["message"].lower()]


def test_an_explorer_without_a_sound_says_so():
    parts = explorer.ClipExplorer({"small": models.create_model("Cnn6", classes=2, width=0.0625)}).still()
    assert "No sound is chosen" in parts[0].data
