"""Tables IV to XI, their sentences and Figure 4, on results of trainings that never were."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from pannslib import reference
from pannslib.audioset_runs import BASE, PAPER_ROWS
from pannslib.errors import ResultError
from pannslib.report import tagging
from pannslib.report.tagging import System, Systems


@pytest.mark.parametrize("number", [4, *PAPER_ROWS])
def test_a_table_has_the_papers_rows_in_its_order_and_both_sides_apart(systems, number):
    table, printed = tagging.table(number, systems), reference.table(number)
    first = next(iter(tagging.ROW_COLUMNS[number]))
    assert table.iloc[: len(printed), 0].tolist() == printed[first].tolist()
    assert table["mAP, published"].iloc[: len(printed)].tolist() == printed["map"].tolist()
    ours = table[table["our run"] != ""]
    assert len(ours) == (1 if number == 4 else len(printed))
    for metric in tagging.METRICS.values():
        low, value, high = (table[f"{metric}, {kind}"] for kind in ("95 % low", "ours", "95 % high"))
        assert ((low <= value) & (value <= high)).sum() == value.notna().sum() > 0


def test_ours_are_the_scores_of_the_row_that_they_stand_in(systems, trained):
    table = tagging.table(10, systems).set_index("mel bins")
    assert table.loc[128, "mAP, ours"] == pytest.approx(trained["train_cnn14_mel128"].classes["ap"].mean())
    assert table.loc[64, "our run"] == BASE
    assert np.isnan(tagging.table(11, systems).set_index("architecture").loc["ResNet22", "d-prime, published"])


def test_table_iv_has_earlier_systems_published_only_and_the_linear_classifier_ours_only(systems):
    table = tagging.table(4, systems).set_index("system")
    assert np.isnan(table.loc["DeepRes", "mAP, ours"])
    assert np.isnan(table.loc[tagging.LINEAR, "mAP, published"])
    assert table.loc["Random guess", "AUC, ours"] == pytest.approx(0.5, abs=0.05)


def test_what_is_clearly_better_shows_and_what_is_clearly_worse_does_not(systems):
    found = tagging.findings(systems).set_index(["table", "finding"])
    assert found.loc[(10, "128 against 32 mel bins"), "shows"] == "yes"
    assert found.loc[(10, "128 against 32 mel bins"), "published"] == pytest.approx(0.029)
    assert found.loc[(5, "mixup against none on the small set"), "shows"] == "no"
    assert ((found["low"] <= found["ours"]) & (found["ours"] <= found["high"])).all()
    assert (found["shows"] == "yes").eq(found["low"] > 0).all()


def test_an_interval_that_holds_0_cant_tell_and_equal_systems_differ_by_nothing(trained, systems):
    twin = Systems({**trained, "train_cnn14_half": trained[BASE]}, systems.linear, "miniature", draws=50)
    row = tagging.findings(twin, 8).iloc[0]
    assert (row["ours"], row["low"], row["high"], row["shows"]) == (0, 0, 0, "can't tell")


def test_differences_are_paired(systems):
    """Two systems that err on the same clips differ far more surely than either is known."""
    row = tagging.findings(systems, 11).set_index("finding").loc["CNN14 against MobileNetV1"]
    own = tagging.table(11, systems).set_index("architecture").loc["CNN14"]
    assert row["high"] - row["low"] < own["mAP, 95 % high"] - own["mAP, 95 % low"]


@pytest.mark.parametrize(
    ("failed", "verdict", "table", "shows"),
    [
        ("train_cnn14_small_bal_mixup", "at chance", 5, "yes"),  # the same network on less data
        ("train_cnn14_small_bal_mixup", "diverged", 5, "can't tell"),
        ("train_cnn6", "at chance", 11, "can't tell"),  # says nothing of the architecture
    ],
)
def test_a_network_that_failed_to_train_is_told(tmp_path, trained, systems, failed, verdict, table, shows):
    from dataclasses import replace

    changed = replace(trained[failed], summary=trained[failed].summary | {"verdict": verdict})
    judged = Systems({**trained, failed: changed}, systems.linear, "miniature", draws=50)
    text = {5: "the full against the small set", 11: "CNN14 against the shallower CNN6"}[table]
    row = tagging.findings(judged, table).set_index("finding").loc[text]
    assert row["shows"] == shows
    assert failed in row["because"]
    assert failed in tagging.sentence(table, judged)


def test_scores_that_are_no_numbers_leave_a_row_without_a_number():
    scores = np.full((20, 3), np.nan)
    system = System("train_dainet19", np.eye(20, 3, dtype=bool), scores, "diverged", draws=10)
    assert np.isnan(system.measured["map"])
    assert np.isnan(tagging.interval(system.measured["map"], system.bootstrap["map"])).all()


def test_the_sentence_says_each_answer_once_with_the_papers_number(systems):
    text = tagging.sentence(10, systems)
    assert text.count("\n") == 0
    assert "**Yes** for 128 against 32 mel bins" in text
    assert "in the paper +0.029" in text
    assert "miniature" in text


def test_the_rarest_third_has_the_fewest_training_clips(systems, trained):
    clips = trained[BASE].classes["training_clips"]
    rare = systems.rarest_third
    assert len(rare) == round(len(clips) / 3)
    assert clips[rare].max() <= clips.drop(rare).min()
    table = tagging.rarest_third(systems)
    expected = trained["train_cnn14_bal_nomixup"].classes["ap"][rare].mean()
    assert table.set_index("our run").loc["train_cnn14_bal_nomixup", "mAP, rarest third"] == pytest.approx(expected)
    assert len(table) == 4


def test_an_interval_holds_the_value_though_draws_are_biased():
    draws = np.random.default_rng(0).normal(0.3, 0.01, 1000)
    low, high = tagging.interval(0.2, draws)
    assert low < 0.2 < high
    assert high - low == pytest.approx(4 * 0.01, rel=0.1)
    assert tagging.interval(np.inf, np.full(5, np.inf)) == (np.inf, np.inf)


def test_systems_of_other_clips_cant_be_compared(trained, systems):
    import dataclasses

    other = dataclasses.replace(systems.linear, targets=~systems.linear.targets)
    with pytest.raises(ResultError, match="other clips than train_cnn14"):
        tagging.table(4, Systems(trained, other, "miniature", draws=5))


def test_figure_4_has_every_curve_of_the_paper_and_ours_beside_it(systems):
    frame = tagging.figure_4_frame(systems)
    curves = frame.groupby(["panel", "series", "split"])["source"].agg(set)
    assert len(curves) == 42
    assert all(sources == {"published", "ours"} for sources in curves)
    assert set(frame.loc[frame["source"] == "ours", "run"]) <= set(systems.results)
    published = frame[(frame["source"] == "published") & (frame["panel"] == "a")]
    assert published["iteration"].max() == 540_000
    assert "of 6 panels" in tagging.figure_4_sentence(frame)


def test_figure_4_is_drawn_on_two_axes_with_the_base_in_its_colour(systems):
    frame = tagging.figure_4_frame(systems)
    figure = tagging.figure_4(frame, "miniature")
    assert len(figure.axes) == 12
    lower, upper = figure.axes[0], next(ax for ax in figure.axes if ax.get_xlabel() == "Iterations here")
    assert lower.get_xlim() == (0, 540)
    assert upper.get_xlim() == (0, 1000)
    for panel, part in frame.groupby("panel"):
        base = part.loc[(part["run"] == BASE), "series"].iloc[0]
        assert tagging._series_colours(part)[base] == tagging.SYSTEM_COLOURS["CNN14"], panel
    _no_overlaps(figure)
    plt.close(figure)


def _no_overlaps(figure) -> None:
    """No title, axis label or legend of a panel lies over another panel's, and nothing is cut off."""
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in figure.axes[:6]]
    pairs = [(a, b) for n, a in enumerate(boxes) for b in boxes[n + 1 :]]
    assert not any(a.shrunk(0.98, 0.98).overlaps(b.shrunk(0.98, 0.98)) for a, b in pairs)
    page = figure.bbox
    assert all(box.x0 >= page.x0 and box.x1 <= page.x1 and box.y0 >= page.y0 for box in boxes)


def test_in_which_runs_a_table_is_interested_is_the_catalogues():
    for number, names in PAPER_ROWS.items():
        assert list(tagging.rows(number).values()) == names
    labels = pd.Series(list(tagging.rows(5)))
    assert labels.is_unique
