"""Event and segment scores by hand-made events, and recordings of known events from a miniature."""

import numpy as np
import pandas as pd
import pytest

from pannslib import audio, catalogue, events
from pannslib.metrics import MetricError


def frame(*rows):
    return pd.DataFrame(rows, columns=["recording", "label", "onset_s", "offset_s"])


TRUE = frame(("a", "Bell", 1.0, 2.0), ("a", "Bell", 4.0, 5.0), ("a", "Wind", 0.0, 6.0), ("b", "Bell", 0.5, 1.0))


def test_events_match_within_the_collar_and_once():
    found = frame(("a", "Bell", 1.4, 2.0), ("a", "Bell", 1.5, 1.7), ("a", "Wind", 0.6, 6.0), ("b", "Bell", 0.5, 0.7))
    scores = events.event_f1(TRUE, found, collar_s=0.5)
    assert (scores["matched"], scores["true"], scores["found"]) == (2, 4, 4)
    assert scores["f1"] == scores["precision"] == scores["recall"] == pytest.approx(0.5)
    assert events.event_f1(TRUE, found, collar_s=0.7)["matched"] == 3


def test_as_many_as_possible_are_matched():
    true = frame(("a", "Bell", 1.0, 2.0), ("a", "Bell", 1.4, 2.0))
    found = frame(("a", "Bell", 1.2, 2.0), ("a", "Bell", 0.6, 2.0))
    assert events.event_f1(true, found, collar_s=0.45)["matched"] == 2


def test_perfect_and_empty():
    assert events.event_f1(TRUE, TRUE)["f1"] == 1
    nothing = events.event_f1(TRUE, TRUE[:0])
    assert (nothing["f1"], nothing["precision"], nothing["recall"]) == (0, 0, 0)
    with pytest.raises(MetricError, match="no true event"):
        events.event_f1(TRUE[:0], TRUE)
    with pytest.raises(MetricError, match="no onset_s"):
        events.event_f1(TRUE, TRUE.drop(columns="onset_s"))


def test_segments():
    # true in a: Bell in seconds 1 and 4, Wind in 0 to 5; found: Bell in 1 and 2
    found = frame(("a", "Bell", 1.2, 2.5))
    scores = events.segment_f1(TRUE[:3], found, {"a": 6.0})
    assert (scores["true"], scores["found"], scores["matched"]) == (8, 2, 1)


def test_recordings_have_their_events_where_they_are_heard(home):
    plan = catalogue.plan("smoke")
    recordings, true = events.joined_recordings(plan.known_events(), 32_000, clips=4, most=3)
    assert list(recordings) == ["recording_01", "recording_02", "recording_03"]
    assert {len(waveform) for waveform in recordings.values()} == {4 * 32_000}
    assert (true["offset_s"] <= 4.0 + 1e-6).all()
    assert (true["onset_s"] < true["offset_s"]).all()
    assert set(true["label"]) <= set(plan.dataset("audioset").classes)
    first = sorted((plan.known_events() / "audios/eval_segments").glob("Y*.wav"))[0]
    assert np.array_equal(recordings["recording_01"][:32_000], audio.load(first, sample_rate=32_000))


def test_a_detector_that_knows_everything_and_one_that_says_everything():
    waves = {"a": np.zeros(6, np.float32), "b": np.zeros(6, np.float32)}
    names = {id(wave): name for name, wave in waves.items()}

    def knows(waveform, threshold):
        return TRUE[TRUE["recording"] == names[id(waveform)]].drop(columns="recording")

    table = events.thresholds(TRUE, knows, waves, {"a": 6.0, "b": 6.0}, [0.2, 0.8])
    assert table["event_f1"].tolist() == table["segment_f1"].tolist() == [1, 1]
    classes = events.by_class(TRUE, knows, waves, 0.5)
    assert classes.set_index("label")["true"].to_dict() == {"Bell": 3, "Wind": 1}
    assert (classes["F1"] == 1).all()
