"""Recipes of Mini-AudioSet, third part: noises, things that click and rattle, machines, animals.

Each recipe is `(rng, samples, rate) -> waveform` of one event, float32 `(samples,)` at any level. The rattling ones
share much of their spectrum and differ in when they strike.
"""

from __future__ import annotations

import numpy as np

from pannslib.datasets.miniature.synthesis import (
    amplitude,
    beats,
    between,
    contour,
    convolve,
    dying,
    faded,
    harmonic_tone,
    modes,
    noise,
    partials,
    sawtooth,
    scatter,
    tone,
    wander,
)

# --- noises ----------------------------------------------------------------------------------------------------


def white_noise(rng, samples, rate):
    """The same power at every frequency, steady."""
    return faded(noise(rng, samples, rate, tilt=rng.uniform(-0.4, 0.4)), rate, 0.02, 0.02)


def pink_noise(rng, samples, rate):
    """3 dB less for every octave, steady."""
    return faded(noise(rng, samples, rate, tilt=rng.uniform(-3.5, -2.5)), rate, 0.02, 0.02)


def static(rng, samples, rate):
    """A badly tuned receiver: hiss that breaks off and spits clicks."""
    hiss = noise(rng, samples, rate, tilt=rng.uniform(-3, 1), low=300, high=between(rng, 3000, 12000))
    drop = np.exp2(2 * np.minimum(wander(rng, samples, rate, 25, 1.0), 0.5))
    spits = np.zeros(samples, np.float32)
    moments = rng.integers(0, samples, int(between(rng, 20, 200) * samples / rate))
    spits[moments] = rng.normal(0, rng.uniform(3, 12), len(moments))
    return hiss * drop + spits


def whoosh(rng, samples, rate):
    """Something passes: noise whose band rises and falls again once, loudest in the middle."""
    middle, width = rng.uniform(0.35, 0.65), between(rng, 0.08, 0.25)
    near = np.exp(-0.5 * ((contour(samples, 0, 1) - middle) / width) ** 2)
    low = noise(rng, samples, rate, tilt=-3, low=150, high=between(rng, 500, 1200))
    high = noise(rng, samples, rate, tilt=-1, low=between(rng, 800, 2000), high=between(rng, 3000, 9000))
    return near * (low + rng.uniform(0.5, 1.5) * high * near**2)


def throbbing(rng, samples, rate):
    """Low noise and hum whose level beats evenly two to nine times a second."""
    beat = 0.5 + 0.5 * tone(between(rng, 2, 9), samples, rate, rng.random())
    hum = harmonic_tone(between(rng, 40, 130), partials(12, rng.uniform(-9, -4)), samples, rate)
    body = noise(rng, samples, rate, tilt=rng.uniform(-7, -3)) * rng.uniform(0.2, 1) + hum * rng.uniform(0.2, 1)
    return faded(body * beat ** rng.uniform(0.7, 3), rate, 0.03, 0.03)


def boiling(rng, samples, rate):
    """A dense crowd of small bubbles, each a short tone that rises, over a soft rush."""
    wave = rng.uniform(0.05, 0.3) * noise(rng, samples, rate, tilt=-3, high=2000)
    for _ in range(8):
        size, pitch = int(between(rng, 0.015, 0.06) * rate), between(rng, 250, 1500)
        bubble = tone(pitch * contour(size, 1, rng.uniform(1.2, 2)), size, rate) * dying(size, rate, 0.04)
        moments = rng.integers(0, samples, rng.poisson(between(rng, 3, 10) * samples / rate))
        wave += scatter(samples, moments, faded(bubble, rate, 0.002, 0.003), rng.lognormal(-0.5, 0.6, len(moments)))
    return wave


# --- strikes in time -------------------------------------------------------------------------------------------


def heartbeat(rng, samples, rate):
    """Lub-dub: two dull thumps close together, again and again, 54 to 132 a minute."""
    size, tempo = int(0.15 * rate), between(rng, 0.9, 2.2)
    thump = modes(size, rate, between(rng, 60, 150) * np.array([1, 1.5, 2.1]), between(rng, 0.08, 0.2), [1, 0.5, 0.3])
    starts = beats(rng, samples, rate, tempo, 0.02)
    second = starts + int(rng.uniform(0.28, 0.36) / tempo * rate)
    return scatter(samples, starts, thump) + rng.uniform(0.4, 0.9) * scatter(samples, second, thump)


def _clap(rng, rate):
    """One clap of two hands: 50 ms of noise about the resonance of the hollow between them."""
    size = int(0.05 * rate)
    burst = noise(rng, size, rate, tilt=-2, low=400, peaks=((between(rng, 700, 2500), 0.4, rng.uniform(6, 14)),))
    return faded(burst * dying(size, rate, between(rng, 0.02, 0.06)), rate, 0.0005, 0.01)


def clapping(rng, samples, rate):
    """One or two people who clap in an even rhythm, two to five times a second."""
    wave, tempo = np.zeros(samples, np.float32), between(rng, 1.8, 5)
    for _ in range(rng.integers(1, 3)):
        starts = beats(rng, samples, rate, tempo, 0.03)
        wave += scatter(samples, starts, _clap(rng, rate), rng.uniform(0.6, 1, len(starts)))
    return wave


def applause(rng, samples, rate):
    """A crowd: hundreds of claps a second, none in time with another."""
    wave, people = np.zeros(samples, np.float32), int(between(rng, 20, 200))
    for _ in range(2):
        crowd = np.zeros(samples, np.float32)
        moments = rng.integers(0, samples, rng.poisson(people * samples / rate))
        crowd[moments] = rng.lognormal(0, 0.6, len(moments))
        wave += convolve(crowd, _clap(rng, rate))
    return faded(wave, rate, between(rng, 0.05, 0.5), between(rng, 0.05, 0.5))


def typing(rng, samples, rate):
    """Keys in uneven bursts: a click down, a softer one up, three kinds of keys."""
    size, now, starts = int(0.04 * rate), 0.0, []
    pace = between(rng, 0.07, 0.22)
    while now < samples / rate:
        starts.append(now)
        now += pace * rng.lognormal(0, 0.5) + (rng.uniform(0.2, 0.5) if rng.random() < 0.1 else 0)
    starts = np.array(starts) * rate
    wave = np.zeros(samples, np.float32)
    for key in range(3):
        click = noise(rng, size, rate, low=between(rng, 600, 3000)) * dying(size, rate, between(rng, 0.008, 0.03))
        own = starts[key::3]
        wave += scatter(samples, own, click, rng.uniform(0.4, 1, len(own)))
        wave += scatter(samples, own + rng.uniform(0.04, 0.09) * rate, click, rng.uniform(0.1, 0.4, len(own)))
    return wave


def clip_clop(rng, samples, rate):
    """Hooves on a hard road: hollow knocks in the uneven pairs of a walk or a trot."""
    size, hollow = int(0.08 * rate), between(rng, 450, 1400)
    wave = np.zeros(samples, np.float32)
    tempo, lag = between(rng, 1.1, 2.6), rng.uniform(0.2, 0.4)
    starts = beats(rng, samples, rate, tempo, 0.02)
    for side in range(2):
        pitch = hollow * (1.0, rng.uniform(0.7, 0.9))[side]
        hoof = modes(size, rate, pitch * np.array([1, 2.1, 3.3]), between(rng, 0.03, 0.09), [1, 0.4, 0.2])
        hoof += 0.2 * noise(rng, size, rate, low=1500) * dying(size, rate, 0.01)
        wave += scatter(samples, starts + side * lag / tempo * rate, hoof, rng.uniform(0.6, 1, len(starts)))
    return wave


def ratchet(rng, samples, rate):
    """A pawl over teeth: clicks at a rate that speeds up or runs down from pull to pull."""
    size = int(0.03 * rate)
    click = modes(size, rate, rng.uniform(1500, 7000, 4), rng.uniform(0.005, 0.03, 4), rng.uniform(0.3, 1, 4))
    click += 0.5 * noise(rng, size, rate, low=1500) * dying(size, rate, 0.005)
    pull = sawtooth(between(rng, 0.7, 2.5), samples, rate, rng.random())
    fast, slow = between(rng, 20, 50), between(rng, 5, 15)
    tempo = fast * (slow / fast) ** (pull if rng.random() < 0.5 else 1 - pull)
    starts = beats(rng, samples, rate, tempo)
    return scatter(samples, starts, click, rng.uniform(0.7, 1, len(starts)))


def machine_gun(rng, samples, rate):
    """Bursts of shots at 7 to 16 a second: each a blast of noise with a low thump."""
    size = int(0.25 * rate)
    blast = noise(rng, size, rate, tilt=rng.uniform(-4, -1)) * dying(size, rate, between(rng, 0.05, 0.25))
    shot = blast + rng.uniform(0.3, 1) * modes(size, rate, between(rng, 60, 140), 0.12)
    starts = beats(rng, samples, rate, between(rng, 7, 16), 0.01)
    burst = sawtooth(between(rng, 0.6, 1.6), samples, rate, rng.random()) < rng.uniform(0.4, 0.8)
    kept = starts[burst[starts]]
    return scatter(samples, kept if len(kept) else starts, faded(shot, rate, 0.0, 0.05))


def bouncing(rng, samples, rate):
    """A ball let fall: thuds that follow one another ever faster and softer."""
    size, keep = int(0.1 * rate), rng.uniform(0.7, 0.88)
    ball = modes(size, rate, between(rng, 90, 600) * np.array([1, 2.2, 3.1]), between(rng, 0.02, 0.1), [1, 0.5, 0.3])
    ball += 0.3 * noise(rng, size, rate, low=500, high=5000) * dying(size, rate, 0.01)
    steps = between(rng, 0.25, 0.6) * keep ** np.arange(30)
    starts = np.concatenate([[0.0], np.cumsum(steps)])
    return scatter(samples, starts * rate, ball, keep ** np.arange(31))


# --- machines --------------------------------------------------------------------------------------------------


def _motor(rng, pitch, tilt, samples, rate):
    """Firings at `pitch` Hz `(samples,)` through the resonances of a body, with the breath of its exhaust."""
    cylinders = rng.uniform(0.3, 1, 150)
    formants = tuple((between(rng, low, 4 * low), 0.5, rng.uniform(4, 12)) for low in (60, 240, 1000))
    firing = harmonic_tone(pitch, partials(150, tilt, formants, float(np.mean(pitch))) * cylinders, samples, rate)
    breath = noise(rng, samples, rate, tilt=-3) * np.abs(firing)
    return firing + rng.uniform(0.05, 0.5) * breath


def idling(rng, samples, rate):
    """A motor standing still: 12 to 40 uneven firings a second that go on and on."""
    pitch = between(rng, 12, 40) * np.exp2(wander(rng, samples, rate, 6, 0.05))
    return faded(_motor(rng, pitch, rng.uniform(-6, -3), samples, rate), rate, 0.05, 0.05)


def revving(rng, samples, rate):
    """The same motor driven up by an octave or two and let go, once or twice."""
    throttle = np.abs(tone(rng.integers(1, 3) * rate / samples / 2, samples, rate)) ** 0.7
    pitch = between(rng, 18, 50) * np.exp2(rng.uniform(1, 2.2) * throttle)
    return faded(_motor(rng, pitch, rng.uniform(-6, -3), samples, rate) * (0.3 + throttle), rate, 0.05, 0.05)


# --- animals ---------------------------------------------------------------------------------------------------


def mosquito(rng, samples, rate):
    """A thin buzz of 350 to 800 Hz that comes near, goes away and slides a little in pitch."""
    pitch = between(rng, 350, 800) * np.exp2(wander(rng, samples, rate, 3, 0.06))
    near = np.exp2(wander(rng, samples, rate, 2, 1.2))
    return faded(harmonic_tone(pitch, partials(14, rng.uniform(-7, -2)), samples, rate) * near, rate, 0.1, 0.1)


def hoot(rng, samples, rate):
    """An owl: soft, almost pure low notes in a fixed short rhythm."""
    pitch, beat = between(rng, 280, 750), between(rng, 0.22, 0.4)
    size = int(beat * rng.uniform(0.5, 0.9) * rate)
    bend = contour(size, 0.95, 1, rng.uniform(0.85, 1))
    note = faded(harmonic_tone(pitch * bend, np.array([1, 0.15, 0.05]), size, rate), rate, 0.05, 0.08)
    rhythm = np.array([0, 1, 1.6, 3, 4.2, 5.5]) * beat * rate
    return scatter(samples, rhythm, note, rng.uniform(0.6, 1, 6))


def bird_chirp(rng, samples, rate):
    """A small bird: the same few quick whistled sweeps between 2 and 8 kHz, repeated in phrases."""
    wave, base = np.zeros(samples, np.float32), between(rng, 2500, 5000)
    phrase = beats(rng, samples, rate, between(rng, 1, 3.5), 0.05)
    step, offset = between(rng, 0.06, 0.16), 0.0
    for _ in range(rng.integers(2, 6)):
        size = int(step * rng.uniform(0.4, 0.95) * rate)
        sweep = base * np.exp2(contour(size, *rng.uniform(-0.4, 0.4, 3)))
        note = faded(tone(sweep, size, rate), rate, 0.008, 0.008) * amplitude(rng.uniform(-8, 0))
        wave += scatter(samples, phrase + offset * rate, note)
        offset += step
    return wave
