"""Players: what is heard is the clip, and all of them stay small."""

import base64
import io
import re
from types import SimpleNamespace

import numpy as np
import soundfile

from pannslib.report import listening

RATE = 32_000


def packed_clips(classes: int, seconds: float = 2.0):
    rng = np.random.default_rng(0)
    waveforms = rng.uniform(-0.3, 0.3, (classes, round(seconds * RATE))).astype(np.float32)
    return SimpleNamespace(
        sample_rate=RATE,
        seconds=seconds,
        classes=tuple(f"class <{number}>" for number in range(classes)),
        targets=np.eye(classes, dtype=bool),
        splits=np.array(["eval"] * classes),
        read=lambda rows: waveforms[rows],
    )


def sounds(page: str) -> list[bytes]:
    return [base64.b64decode(text) for text in re.findall(r'base64,([^"]+)"', page)]


def test_a_player_holds_the_clip():
    seconds = np.arange(RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 1000 * seconds)).astype(np.float32)
    heard, rate = soundfile.read(io.BytesIO(listening.encode(tone, RATE)))
    assert rate == listening.RATE
    middle = heard[rate // 4 : 3 * rate // 4]
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.fft.rfftfreq(len(middle), 1 / rate)[spectrum.argmax()] == 1000
    assert np.abs(middle).max() == np.float32(0.5).round(1) or abs(np.abs(middle).max() - 0.5) < 0.05


def test_every_class_has_its_player_and_its_name_is_escaped():
    packed = packed_clips(5)
    page = listening.players(packed, listening.examples(packed))
    assert len(sounds(page)) == 5
    assert "class &lt;4&gt;" in page
    assert "<4>" not in page


def test_players_stay_within_the_budget():
    packed = packed_clips(6, seconds=3.0)
    clips = listening.examples(packed)
    generous, tight = (sounds(listening.players(packed, clips, budget)) for budget in (3_000_000, 30_000))
    assert sum(map(len, tight)) <= 30_000 < sum(map(len, generous))
    assert len(tight) == 6


def test_a_clip_of_a_class_is_one_without_another_class_if_there_is():
    packed = packed_clips(3)
    packed.targets = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1]], bool)
    assert listening.examples(packed) == {"class <0>": 1, "class <1>": 0, "class <2>": 2}
