"""Sound files: what is decoded exactly, what is refused and how."""

import os
import struct

import numpy as np
import pytest
import soundfile

from pannslib import audio
from pannslib.errors import AudioError


def tone(sample_rate, seconds=1.0, frequency=440.0, amplitude=0.5):
    """A sine wave, float32 (samples,)."""
    time = np.arange(round(sample_rate * seconds)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def write(path, waveform, sample_rate=32_000, **options):
    soundfile.write(path, waveform, sample_rate, **options)
    return path


FORMATS = {
    "WAV": ("wav", "PCM_16"),
    "WAVEX": ("wav", "PCM_24"),
    "RF64": ("wav", "FLOAT"),
    "W64": ("w64", "PCM_16"),
    "AIFF": ("aiff", "PCM_24"),
    "AU": ("au", "PCM_32"),
    "CAF": ("caf", "DOUBLE"),
    "FLAC": ("flac", "PCM_16"),
    "OGG": ("ogg", "VORBIS"),
    "MP3": ("mp3", "MPEG_LAYER_III"),
}


@pytest.fixture(params=FORMATS)
def sound_file(request, tmp_path):
    """Three seconds of seeded noise in each format."""
    suffix, subtype = FORMATS[request.param]
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 3 * 44_100)
    return write(tmp_path / f"clip.{suffix}", noise, 44_100, format=request.param, subtype=subtype)


# --- loading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_bit_depths_agree(tmp_path, subtype):
    wave = tone(32_000)
    loaded = audio.load(write(tmp_path / "clip.wav", wave, subtype=subtype))
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, wave, atol=2**-7 if subtype == "PCM_U8" else 2**-15)


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_any_sample_rate_becomes_the_wanted_one(tmp_path, sample_rate):
    path = write(tmp_path / "clip.wav", tone(sample_rate), sample_rate, subtype="FLOAT")
    loaded = audio.load(path, sample_rate=32_000)
    assert loaded.shape == (32_000,)
    # the ends see the silence around the clip
    np.testing.assert_allclose(loaded[2000:-2000], tone(32_000)[2000:-2000], atol=1e-4)


def test_downsampling_does_not_alias(tmp_path):
    path = write(tmp_path / "clip.wav", tone(48_000, frequency=20_000), 48_000, subtype="FLOAT")
    assert np.abs(audio.load(path, sample_rate=32_000)[2000:-2000]).max() < 1e-4


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path, channels):
    weights = np.arange(1, channels + 1) / channels
    loaded = audio.load(write(tmp_path / "clip.wav", np.outer(tone(32_000), weights), subtype="FLOAT"))
    np.testing.assert_allclose(loaded, tone(32_000) * weights.mean(), atol=1e-6)


@pytest.mark.parametrize(("length", "kept"), [(0.5, 16_000), (2.5, 40_000)])
def test_seconds_crops_or_pads_at_the_end(tmp_path, length, kept):
    wave = tone(32_000, length)
    loaded = audio.load(write(tmp_path / "clip.wav", wave, subtype="FLOAT"), seconds=1.25)
    assert loaded.shape == (40_000,)
    np.testing.assert_array_equal(loaded[:kept], wave[:kept])
    assert not loaded[kept:].any()


def test_length_is_exact_at_odd_numbers(tmp_path):
    path = write(tmp_path / "clip.wav", tone(44_100, 0.777), 44_100)
    assert audio.load(path, 32_000, seconds=1.00001).shape == (round(1.00001 * 32_000),)
    assert audio.load(path, 16_000).shape == (round(round(0.777 * 44_100) * 16_000 / 44_100),)


def test_one_sample_at_a_high_rate_is_still_a_clip(tmp_path):
    assert audio.load(write(tmp_path / "clip.wav", np.array([0.5]), 192_000), 8_000).shape == (1,)


def test_samples_beyond_full_scale_are_kept(tmp_path):
    path = write(tmp_path / "clip.wav", tone(32_000, amplitude=1.5), subtype="FLOAT")
    assert audio.load(path).max() == pytest.approx(1.5, abs=1e-3)


def test_every_format_is_read_whole(sound_file):
    waveform, about = audio.decode(sound_file)
    assert about.frames == len(waveform) == 3 * 44_100
    assert audio.info(sound_file) == about


def test_info_tells_what_is_in_the_file(tmp_path):
    path = write(tmp_path / "clip.wav", np.zeros((4410, 2)), 44_100, subtype="PCM_24")
    assert audio.info(path) == audio.AudioInfo(0.1, 44_100, 2, 4410, "PCM_24", "WAV")


# --- files that cannot be used -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.4, 0.7, 0.99])
def test_truncated_files_are_refused(sound_file, share):
    content = sound_file.read_bytes()
    sound_file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(AudioError, match=r"truncated|no sound file that can be decoded") as caught:
        audio.load(sound_file)
    assert str(sound_file) in str(caught.value)


def test_truncation_is_seen_behind_long_metadata(tmp_path):
    # libsndfile's own log of the chunks ends before it gets to `data` here
    content = write(tmp_path / "clip.wav", tone(32_000)).read_bytes()
    comment = b"LIST" + struct.pack("<I", 212) + b"INFOICMT" + struct.pack("<I", 200) + b"x" * 200
    long = content[:36] + 20 * comment + content[36:]
    (tmp_path / "long.wav").write_bytes(long)
    np.testing.assert_allclose(audio.load(tmp_path / "long.wav"), tone(32_000), atol=1e-4)
    (tmp_path / "long.wav").write_bytes(long[:-20_000])
    with pytest.raises(AudioError, match="truncated"):
        audio.load(tmp_path / "long.wav")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_a_streamed_wav_promises_nothing(tmp_path, size):
    content = bytearray(write(tmp_path / "clip.wav", tone(32_000)).read_bytes())
    assert content[36:40] == b"data"
    content[40:44] = struct.pack("<I", size)
    (tmp_path / "clip.wav").write_bytes(content)
    assert len(audio.load(tmp_path / "clip.wav")) == 32_000


def test_no_cut_of_an_ogg_file_passes(tmp_path):
    path = write(tmp_path / "clip.ogg", tone(32_000), format="OGG", subtype="VORBIS")
    content = path.read_bytes()
    for length in range(1, len(content), len(content) // 60):
        path.write_bytes(content[:length])
        with pytest.raises(AudioError):
            audio.load(path)


def make_unusable(folder, kind):
    """A path that cannot be loaded, and a word of what the message must say."""
    path = folder / "clip.wav"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not a sound\n" * 100)
    elif kind == "folder":
        path.mkdir()
    elif kind == "no samples":
        write(path, np.zeros(0))
    elif kind == "raw":
        path = path.with_suffix(".raw")
        path.write_bytes(b"\0" * 1000)
    elif kind in ("nan", "infinite"):
        wave = tone(32_000)
        wave[100] = float("nan" if kind == "nan" else "inf")
        write(path, wave, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("absent", "There is no file"),
        ("folder", "folder"),
        ("empty", "empty"),
        ("text", "no sound file"),
        ("no samples", "no samples"),
        ("raw", "without a header"),
        ("nan", "1 samples that are NaN or infinite"),
        ("infinite", "NaN or infinite"),
    ],
)
def test_unusable_files_are_refused_by_name(tmp_path, kind, words):
    path = make_unusable(tmp_path, kind)
    with pytest.raises(AudioError, match=words) as caught:
        audio.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "head",
    [b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", (b"G" + bytes(187)) * 2],
    ids=["flv", "wmv", "mpg", "mpg without sound", "ts"],
)
def test_videos_of_all_kinds_get_the_advice_for_videos(tmp_path, head):
    (tmp_path / "film").write_bytes(head + bytes(4096))
    with pytest.raises(AudioError, match="ffmpeg -i"):
        audio.info(tmp_path / "film")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    path = write(tmp_path / "clip.wav", tone(32_000))
    path.chmod(0)
    with pytest.raises(AudioError, match="permissions"):
        audio.load(path)


@pytest.mark.parametrize("options", [{"sample_rate": 0}, {"sample_rate": -1}, {"seconds": 0}, {"seconds": -2}])
def test_impossible_requests_are_refused(tmp_path, options):
    path = write(tmp_path / "clip.wav", tone(32_000))
    with pytest.raises(AudioError, match="positive"):
        audio.load(path, **options)


# --- lengths, integers, writing -----------------------------------------------------------------------------------


def test_to_int16_rounds_and_saturates():
    wave = np.array([-3, -1, -0.6 / 32_767, 0, 0.4 / 32_767, 0.6 / 32_767, 1, 1.0672])
    np.testing.assert_array_equal(audio.to_int16(wave), [-32_767, -32_767, -1, 0, 0, 1, 32_767, 32_767])


def test_int16_goes_there_and_back():
    every = np.arange(-32_767, 32_768, dtype=np.int16)
    restored = audio.from_int16(every)
    assert restored.dtype == np.float32
    assert restored.min() == -1
    assert restored.max() == 1
    np.testing.assert_array_equal(audio.to_int16(restored), every)


def test_to_int16_refuses_nan():
    with pytest.raises(AudioError, match="NaN"):
        audio.to_int16(np.array([0.0, np.nan]))


def test_save_can_be_loaded_again(tmp_path):
    path = audio.save(tmp_path / "new" / "clip.wav", tone(16_000, amplitude=1.2), 16_000)
    assert audio.info(path).subtype == "PCM_16"
    np.testing.assert_allclose(audio.load(path, 16_000), tone(16_000, amplitude=1.2).clip(-1, 1), atol=1e-4)


@pytest.mark.parametrize(
    ("waveform", "sample_rate"), [(np.array([np.nan]), 8000), (np.zeros((2, 3)), 8000), (np.zeros(3), 0)]
)
def test_save_that_fails_leaves_the_file_alone(tmp_path, waveform, sample_rate):
    path = audio.save(tmp_path / "clip.wav", tone(8_000), 8_000)
    before = path.read_bytes()
    with pytest.raises(AudioError):
        audio.save(path, waveform, sample_rate)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
