"""Recipes of Mini-AudioSet, first part: test tones, telephones, alarms, sirens and horns.

Each recipe is `(rng, samples, rate) -> waveform` of one event, float32 `(samples,)` at any level. Several differ in how
they go on in time and hardly in their mean spectrum: dial tone and busy signal, the three sirens, the beeps.
"""

from __future__ import annotations

import numpy as np

from pannslib.datasets.miniature.synthesis import (
    beats,
    between,
    contour,
    dying,
    faded,
    gate,
    harmonic_tone,
    modes,
    noise,
    partials,
    resonate,
    sawtooth,
    scatter,
    tone,
    wander,
)

# Pairs in Hz of the dial tones of several countries.
DIAL_TONES = ((350.0, 440.0), (425.0, 425.0), (400.0, 450.0), (480.0, 620.0), (330.0, 440.0))
KEYPAD = ((697.0, 770.0, 852.0, 941.0), (1209.0, 1336.0, 1477.0, 1633.0))  # Hz, rows and columns


def sine_wave(rng, samples, rate):
    """One steady pure tone anywhere from 150 Hz to 6 kHz."""
    return faded(tone(between(rng, 150, 6000), samples, rate), rate, 0.02, 0.02)


def chirp_tone(rng, samples, rate):
    """A pure tone that glides up or down by two or three octaves, once or a few times over."""
    span, low = rng.uniform(1.5, 3.5), between(rng, 200, 900)
    sweep = span * sawtooth(rng.integers(1, 4) * rate / samples, samples, rate)
    if rng.random() < 0.5:
        sweep = span - sweep
    return faded(tone(low * np.exp2(sweep), samples, rate), rate, 0.01, 0.01)


def _line_tone(rng, samples, rate):
    """What a dial tone and a busy signal share: two tones on a telephone line."""
    low, high = DIAL_TONES[rng.integers(len(DIAL_TONES))]
    line = tone(low, samples, rate, rng.random()) + rng.uniform(0.5, 1) * tone(high, samples, rate, rng.random())
    return np.tanh(rng.uniform(0.3, 2) * line) + rng.uniform(0, 0.05) * noise(rng, samples, rate, low=300, high=3400)


def dial_tone(rng, samples, rate):
    """Two low tones without a pause."""
    return faded(_line_tone(rng, samples, rate), rate, 0.01, 0.01)


def busy_signal(rng, samples, rate):
    """The same two tones, on and off one to two and a half times a second."""
    period = rng.choice([0.4, 0.5, 0.6, 0.75, 1.0])
    return _line_tone(rng, samples, rate) * gate(samples, rate, period, 0.5, rng.random())


def telephone_dialing(rng, samples, rate):
    """Digits of a keypad: pairs of tones that change from digit to digit."""
    step, wave = between(rng, 0.1, 0.35), np.zeros(samples, np.float32)
    size, tilt = int(step * rng.uniform(0.4, 0.8) * rate), rng.uniform(0.6, 1.2)
    for start in np.arange(0, samples, int(step * rate)):
        row, column = (tone(rng.choice(tones), size, rate) for tones in KEYPAD)
        wave += scatter(samples, [start], faded(row + tilt * column, rate, 0.004, 0.004))
    return wave


def telephone_bell(rng, samples, rate):
    """Two small gongs struck in turn some 20 times a second, in rings with pauses between."""
    gongs = between(rng, 800, 1800) * np.array([1, rng.uniform(1.1, 1.35)])
    ratios, size = np.array([1, 2.3, 3.9, 5.2]), int(0.3 * rate)
    starts = beats(rng, samples, rate, between(rng, 15, 26))
    wave = np.zeros(samples, np.float32)
    for side, gong in enumerate(gongs):
        sound = modes(size, rate, gong * ratios, between(rng, 0.15, 0.6) / ratios**0.5, [1, 0.6, 0.4, 0.2])
        wave += scatter(samples, starts[side::2], sound)
    return wave * gate(samples, rate, between(rng, 0.8, 3), rng.uniform(0.4, 0.7), rng.uniform(0, 0.2), 0.02)


def smoke_alarm(rng, samples, rate):
    """Three piercing beeps near 3 kHz and a pause, over and over; or a row without a pause."""
    pitch = between(rng, 2300, 3800)
    beep = between(rng, 0.1, 0.5)
    wave = harmonic_tone(pitch, np.array([1, rng.uniform(0, 0.4), rng.uniform(0, 0.5)]), samples, rate)
    start = rng.random()
    pattern = gate(samples, rate, 2 * beep, 0.5, start)
    if rng.random() < 0.7:
        pattern = pattern * gate(samples, rate, 8 * beep, 0.75, start / 4)
    return wave * pattern


def reversing_beeps(rng, samples, rate):
    """One beep after the other near 1 kHz, about as long as the pauses, from a lorry's harsh buzzer."""
    wave = harmonic_tone(between(rng, 700, 2500), partials(8, rng.uniform(-14, -5)), samples, rate)
    return wave * gate(samples, rate, between(rng, 0.6, 1.3), rng.uniform(0.4, 0.6), rng.random(), 0.01)


def _siren(rng, octaves, samples, rate):
    """What the sirens share: a horn with harmonics, its pitch moved by `octaves` `(samples,)` about a centre."""
    centre = between(rng, 450, 1000)
    formants = ((between(rng, 900, 2800), 0.6, rng.uniform(4, 14)),)
    wave = harmonic_tone(centre * np.exp2(octaves), partials(16, rng.uniform(-12, -5), formants, centre), samples, rate)
    return faded(wave, rate, 0.05, 0.05)


def civil_defense_siren(rng, samples, rate):
    """A rotor that slowly winds up or down over the whole event."""
    rise = rng.choice([-1, 1]) * contour(samples, -1, rng.uniform(0, 0.8), 1)
    return _siren(rng, rng.uniform(0.25, 0.7) * rise, samples, rate)


def ambulance_siren(rng, samples, rate):
    """Two tones in turn, each held for a quarter to three quarters of a second."""
    turn = sawtooth(between(rng, 0.7, 2.2), samples, rate, rng.random()) < 0.5
    return _siren(rng, rng.uniform(0.15, 0.35) * np.where(turn, 1, -1), samples, rate)


def police_siren(rng, samples, rate):
    """The yelp: up quickly and down again, two to six times a second."""
    sweep = np.abs(2 * sawtooth(between(rng, 2, 6), samples, rate, rng.random()) - 1) * 2 - 1
    return _siren(rng, rng.uniform(0.3, 0.7) * sweep, samples, rate)


def foghorn(rng, samples, rate):
    """A long, low, brassy note of 70 to 220 Hz that sinks a little towards its end."""
    pitch = between(rng, 70, 220)
    glide = 1 - 0.15 * rng.random() * np.clip(contour(samples, -4, 1), 0, 1)
    brass = partials(40, rng.uniform(-9, -4), ((between(rng, 300, 900), 0.6, 8.0),), pitch)
    wave = harmonic_tone(pitch * glide, brass, samples, rate)
    return faded(wave, rate, between(rng, 0.05, 0.3), between(rng, 0.1, 0.4))


def mains_hum(rng, samples, rate):
    """Harmonics of 50 or 60 Hz from a transformer or a bad cable, perfectly steady."""
    mains = rng.choice([50.0, 60.0])
    strength = partials(30, rng.uniform(-8, -2)) * rng.lognormal(0, 0.7, 30)
    strength[::2] *= rng.choice([1.0, 0.1])  # a transformer hums at twice the mains
    return faded(harmonic_tone(mains, strength, samples, rate), rate, 0.05, 0.05)


def human_whistling(rng, samples, rate):
    """A breathy pure tone between 600 Hz and 2.5 kHz that slides through a tune."""
    notes = np.cumsum(rng.integers(-3, 4, int(samples / rate * between(rng, 2, 6)) + 2)) / 12
    glide = contour(samples, *np.repeat(notes, 6))  # a sixth of a note's length from one note to the next
    vibrato = rng.uniform(0, 0.03) * tone(between(rng, 4, 7), samples, rate)
    pitch = between(rng, 700, 2000) * np.exp2(glide + vibrato + wander(rng, samples, rate, 5, 0.01))
    loud = np.exp2(wander(rng, samples, rate, 5, 0.5))
    breath = noise(rng, samples, rate, low=600, high=5000)
    return faded((tone(pitch, samples, rate) + rng.uniform(0.01, 0.1) * breath) * loud, rate, 0.05, 0.05)


def buzzer(rng, samples, rate):
    """The rasp of an armature at 80 to 300 Hz, pressed once or a few times."""
    pitch = between(rng, 80, 300) * (1 + 0.02 * dying(samples, rate, 0.35))
    wave = harmonic_tone(pitch, partials(120, rng.uniform(-5, -1)), samples, rate)
    wave = wave + resonate(wave, rate, [between(rng, 800, 3000)], [200.0], [rng.uniform(2, 10)])
    if rng.random() < 0.5:
        wave = wave * gate(samples, rate, between(rng, 0.3, 1.0), rng.uniform(0.5, 0.8), rng.random(), 0.005)
    return faded(wave, rate, 0.005, 0.01)
