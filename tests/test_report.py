"""Tables and figures: what is written, what is told of it, and how it is put on the page."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from pannslib import catalogue, create_model, reference, report
from pannslib.report import plots, reading, tables
from pannslib.report.index import write_index


@pytest.fixture
def plan(home):
    return catalogue.plan("smoke")


@pytest.fixture
def frame():
    return pd.DataFrame({"system": ["a|b", "<script>alert(1)</script>"], "value": [0.123456, None], "clips": [1200, 3]})


def test_a_table_keeps_all_digits_in_csv_and_rounds_for_readers(plan, frame):
    report.save_table(plan, "multi_adds", "table_12", frame, "Table XII: a title", "What it shows.")
    folder = plan.figures
    assert "0.123456" in (folder / "table_12.csv").read_text()
    markdown = (folder / "table_12.md").read_text()
    assert "0.123" in markdown
    assert "0.1235" not in markdown
    assert "1,200" in markdown
    assert "a\\|b" in markdown
    assert "reproduced: computed here" in markdown


def test_what_comes_from_data_cannot_run_in_a_page(plan, frame):
    report.save_table(plan, "multi_adds", "table_12", frame, "A <b>title</b>", "A caption.")
    write_index(plan)
    for page in ("table_12.html", "index.html"):
        text = (plan.figures / page).read_text()
        assert "<script" not in text
        assert "<b>title</b>" not in text


def test_a_figure_has_its_numbers_beside_it_and_the_same_bytes_twice(plan, frame):
    def draw():
        figure, ax = plt.subplots()
        ax.plot([0, 1], [1, 0])
        report.save_figure(plan, "multi_adds", "figure_05", figure, frame, "Figure 5", "A line.")
        plt.close(figure)
        return [(plan.figures / f"figure_05.{suffix}").read_bytes() for suffix in ("png", "svg", "csv")]

    assert draw() == draw()
    record = json.loads((plan.figures / "figure_05.json").read_text())
    assert record["files"] == ["figure_05.png", "figure_05.svg", "figure_05.csv"]
    assert record["provenance"]["evidence"] == "reproduced"
    assert record["provenance"]["packages"]["torch"]


def test_the_index_leads_with_the_papers_tables_then_its_figures(plan, frame):
    figure, _ = plt.subplots()
    report.save_figure(plan, "multi_adds", "figure_05", figure, frame, "Figure 5", "A line.")
    plt.close(figure)
    report.save_table(plan, "multi_adds", "table_12", frame, "Table XII", "Rows.")
    page = write_index(plan).read_text()
    assert page.index('id="table_12"') < page.index('id="figure_05"')
    assert 'src="figure_05.png"' in page


def test_the_paper_and_our_count_are_compared_to_the_last_printed_digit():
    counts = pd.DataFrame(
        {
            "model": ["Cnn6", "Cnn14"],
            "multi_adds": [21_985_715_343, 42_219_000_000],
            "parameters": [4_837_455, 80_753_615],
            "macs": [1, 1],
        }
    )
    table = tables.complexity(counts).set_index("architecture")
    assert bool(table.loc["CNN6", "equal"])
    assert not table.loc["CNN14", "equal"]  # 42.219 is not the printed 42.220
    assert table.loc["CNN14", "multi-adds, published (1e9)"] == 42.22


def test_a_log_mel_is_drawn_on_the_waveforms_time_axis():
    waveform = np.zeros(32_000, np.float32)
    figure = plots.waveform_and_log_mel(waveform, np.zeros((101, 64)), 32_000, 320, "silence")
    top, bottom = figure.axes[:2]
    assert top.get_xlim() == bottom.get_xlim() == (0, 1)
    assert bottom.get_xlabel() == "Time (s)"
    plt.close(figure)


def test_large_confusion_matrices_are_drawn_without_numbers():
    for classes, texts in ((3, 3), (25, 0)):
        counts = pd.DataFrame(np.eye(classes, dtype=int), columns=[f"class_{i}" for i in range(classes)])
        figure, ax = plt.subplots()
        plots.confusion(counts, ax)
        assert sum(bool(text.get_text()) for text in ax.texts) == texts
        plt.close(figure)


def test_reference_tables_are_those_of_the_paper():
    assert len(reference.table(12)) == 15
    assert len(reference.class_labels()) == 527
    with pytest.raises(KeyError, match="4 to 18"):
        reference.table(2)


@pytest.fixture
def costs():
    rows = [
        # model, multi-adds, STFT's, MACs, front end's MACs, its FFT's operations, seconds
        ("MobileNetV2", 2.8e9, 2.1e9, 0.3e9, 1.1e9, 0.1e9, 0.02),
        ("MobileNetV1", 3.6e9, 2.1e9, 0.7e9, 1.1e9, 0.1e9, 0.01),
        ("Cnn14", 42.2e9, 2.1e9, 20e9, 1.1e9, 0.1e9, 0.4),
        ("LeeNet11", 4.7e9, 0, 2.3e9, 0, 0, 0.05),
    ]
    columns = ["model", "multi_adds", "stft_multi_adds", "macs", "front_end_macs", "front_end_fft_flops", "seconds"]
    return tables.costs(pd.DataFrame(rows, columns=columns).assign(device="cpu"), threads=2)


def test_the_true_cost_counts_the_front_end_as_it_is_computed(costs):
    row = costs.set_index("architecture").loc["MobileNetV2"]
    assert row["true cost with FFT (1e9 MACs)"] == pytest.approx(0.35)
    assert row["true cost with convolution (1e9 MACs)"] == pytest.approx(1.4)
    assert row["mAP, published"] == 0.383
    assert row["clips per second"] == pytest.approx(50)


def test_the_paragraph_on_costs_follows_the_numbers(costs):
    text = reading.costs(costs)
    assert "75% of MobileNetV2's and 58% of MobileNetV1's published cost, and 5% of CNN14's" in text
    assert "CNN14 costs 15 times as much as MobileNetV2 in the published count, 57 times in the true one" in text
    assert "by multi-adds and by true cost: MobileNetV2, MobileNetV1, CNN14; by latency: MobileNetV1, CNN14" in text


@pytest.mark.parametrize("compared", [None, "true cost with convolution (1e9 MACs)"])
def test_every_architecture_is_named_once_and_no_label_covers_another(costs, compared):
    figure, ax = plt.subplots()
    plots.complexity(costs, "true cost with FFT (1e9 MACs)", "cost", ax, compared=compared)
    texts = [text for text in ax.texts if text.get_text()]
    assert sorted(text.get_text() for text in texts) == sorted(costs["architecture"])
    boxes = [text.get_window_extent() for text in texts]
    assert not any(box.count_overlaps(boxes[:index]) for index, box in enumerate(boxes))
    plt.close(figure)


def test_layers_with_weights_are_counted_as_names_count_them():
    models = {name: create_model(name, width=0.0625) for name in ("Cnn10", "ResNet22", "MobileNetV1")}
    text = reading.architectures(models)
    told, otherwise = text.split("; ")
    assert "Cnn10 10" in told
    assert "ResNet22 22" in told
    assert otherwise.startswith("MobileNetV1 29")
    assert "as their names say" not in reading.architectures({"MobileNetV1": models["MobileNetV1"]})
