"""Figures 3, 5 and 12 and the comparison of systems class by class."""

import itertools
import json
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from pannslib import catalogue, reference
from pannslib.audioset_runs import BASE
from pannslib.report import classes, use_style


@pytest.fixture(scope="module")
def published():
    return classes.classwise_published()


@pytest.fixture(scope="module")
def correlated(published, ours):
    return classes.correlations(published, ours)


@pytest.fixture(scope="module")
def ours(systems):
    quality = pd.Series(0.9, index=systems.results[BASE].classes["label"])
    return classes.classwise_ours(systems, quality)


def test_figure_3_as_printed_has_ten_classes_a_panel():
    curves = classes.curves_published()
    assert curves.groupby("panel")["label"].nunique().tolist() == [10, 10, 10]
    music = curves[curves["label"] == "Music"]
    assert music["ap"].iloc[0] == pytest.approx(0.361731)
    assert music["rank"].iloc[0] == 1
    assert "0.522" in classes.figure_3_sentence(curves)


def test_figure_3_of_ours_takes_the_largest_the_middle_and_the_smallest(trained):
    result = trained[BASE]
    curves = classes.curves_ours(result)
    sizes = curves.groupby("panel")["training_clips"].agg(["min", "max"])
    ordered = result.classes["training_clips"].sort_values(ascending=False).tolist()
    assert sizes.loc["left", "max"] == ordered[0]
    assert sizes.loc["right", "min"] == ordered[-1]
    assert curves.groupby("panel")["label"].nunique().max() == 10
    last = curves[curves["iteration"] == 1000].set_index("label")["ap"]
    expected = result.class_curves.query("iteration == 1000").set_index("label")["ap"]
    assert (last == expected.reindex(last.index)).all()


@pytest.mark.parametrize("source", ["published", "ours"])
def test_names_in_figure_3_dont_cover_one_another(trained, source):
    curves = classes.curves_published() if source == "published" else classes.curves_ours(trained[BASE])
    use_style()
    figure = classes.figure_3(curves)
    figure.draw_without_rendering()
    for ax in figure.axes:
        boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
        assert all(lower.y1 <= upper.y0 + 2 for lower, upper in itertools.pairwise(boxes))
        assert max(box.x1 for box in boxes) <= figure.bbox.x1
    plt.close(figure)


def test_figure_12_has_all_527_classes_in_the_papers_order(published):
    assert len(published) == 527
    assert published["label"].iloc[0] == "Bagpipes"
    assert published["baseline"].is_monotonic_decreasing
    assert published["CNN14"].mean() == pytest.approx(0.4306, abs=1e-4)


@pytest.mark.parametrize(("classes_there", "rows"), [(44, 1), (45, 2), (527, 12)])
def test_figure_12_takes_as_many_rows_as_it_needs(published, classes_there, rows):
    figure = classes.figure_12(published.head(classes_there), "a baseline")
    assert len(figure.axes) == 2 * rows
    names = [label.get_text() for ax in figure.axes[:rows] for label in ax.get_xticklabels()]
    assert len(names) == classes_there
    width = figure.get_figwidth()
    sizes = [label.get_fontsize() for label in figure.axes[0].get_xticklabels()]
    assert min(sizes) / 72 / width * 1000 >= 10  # pixels where the picture is 1000 wide
    figure.draw_without_rendering()
    assert min(ax.get_tightbbox().y0 for ax in figure.axes) >= 0
    plt.close(figure)


def test_ours_are_ordered_by_the_baseline_and_hold_each_systems_ap(ours, systems):
    assert ours["baseline"].is_monotonic_decreasing
    expected = systems.results["train_mobilenetv1"].classes.set_index("label")["ap"]
    assert np.allclose(ours.set_index("label")["MobileNetV1"], expected.reindex(ours["label"]))


def test_label_quality_of_a_miniature_is_counted_from_what_is_heard(tmp_path):
    (tmp_path / "metadata").mkdir()
    mids = reference.class_labels().set_index("display_name")["mid"]
    events = "split,YTID,onset_seconds,offset_seconds,mid\n"
    events += f"balanced_train,a,0,1,{mids['Speech']}\nbalanced_train,b,0,1,{mids['Music']}\n"
    (tmp_path / "metadata" / "events.csv").write_text(events)
    clips = pd.DataFrame(
        {"split": ["balanced_train"] * 2 + ["eval"], "group": ["a", "b", "c"], "labels": [(0,), (0, 1), (1,)]}
    )
    dataset = SimpleNamespace(root=tmp_path, evidence="miniature", classes=("Speech", "Music"), clips=clips)
    quality = classes.label_quality(dataset)
    assert quality.to_dict() == {"Speech": 0.5, "Music": 1.0}
    real = classes.label_quality(SimpleNamespace(root=tmp_path / "nowhere", evidence="real"))
    assert len(real) == 527
    assert real["Speech"] == 1.0


def test_correlations_are_spearmans_and_both_sources_have_their_columns(published, correlated):
    table = correlated.set_index(["system", "AP correlates with"])
    row = table.loc[("CNN14", "label quality")]
    known = published.dropna(subset=["label_quality"])
    assert row["published"] == pytest.approx(spearmanr(known["CNN14"], known["label_quality"]).statistic)
    assert row["published, classes"] == 457
    assert row["published, 95 % low"] < row["published"] < row["published, 95 % high"]
    assert np.isnan(row["ours"])  # a quality that is the same for all classes correlates with nothing
    assert table.loc[("MobileNetV1", "AP of CNN14"), "ours"] > 0.5


def test_comparison_counts_the_classes_in_which_a_system_is_better(published, ours, correlated):
    table = classes.comparison(published, ours)
    row = table[table["compared with"] == "MobileNetV1"].iloc[0]
    assert row["better in (%), published"] == pytest.approx(
        100 * (published["CNN14"] > published["MobileNetV1"]).mean()
    )
    assert row["mean difference of AP, published"] == pytest.approx(0.0415, abs=1e-4)
    text = classes.comparison_sentence(table, correlated)
    assert "80 % of the classes in the paper" in text
    assert "(undefined)" in text


def test_gains_are_the_largest_differences_with_intervals_for_ours(published, systems):
    printed = classes.gains_published(published)
    assert len(printed) == 30
    assert printed["class"].iloc[0] == "Hoot"
    own = classes.gains_ours(systems, most=3)
    assert len(own) == 18
    assert ((own["95 % low"] <= own["difference"]) & (own["difference"] <= own["95 % high"])).all()
    assert own["difference"].iloc[0] == own.loc[own["system"] == own["system"].iloc[0], "difference"].max()


def test_figure_5_has_fifteen_points_on_each_side(systems):
    frame = classes.cost_and_quality(catalogue.plan("smoke"), systems)
    assert len(frame) == 15
    assert frame.set_index("architecture").loc["CNN14", "multi-adds, published (1e9)"] == 42.22
    assert (frame["multi-adds as trained here (1e9)"] < 1).all()
    figure = classes.figure_5_ours(frame, "miniature")
    for ax in figure.axes:
        texts = {text.get_text() for text in ax.texts} - {""}
        assert texts == set(frame["architecture"])
    assert "15 architectures" in classes.cost_and_quality_sentence(frame)
    plt.close(figure)
    json.dumps(frame.to_dict("records"))
