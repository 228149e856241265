"""What a run costs at full size."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from pannslib import catalogue, complexity, create_model, reference
from pannslib.audioset_runs import BASE, EVENTS, PAPER_ROWS, RUNS
from pannslib.report import planner

FEW = {BASE: [4, 5, 11], "train_cnn6": [11], "train_cnn14_half": [8], "train_cnn14_small_bal_mixup": [5]}


@pytest.fixture(scope="module")
def asked():
    return planner.work(catalogue.plan("full"), FEW)


@pytest.fixture
def reached():
    return pd.DataFrame(
        {
            "run": list(FEW),
            "architecture": ["Cnn14", "Cnn6", "Cnn14", "Cnn14"],
            "operations a clip (1e9)": [2.0, 1.0, 2.0, 2.0],
            "operations a second (1e9)": [50.0, 40.0, 30.0, 60.0],
            "share of the matrix product's rate (%)": [50.0, 40.0, 50.0, 50.0],
        }
    )


def test_every_run_of_the_tables_is_planned_once():
    places = planner.in_tables()
    assert set(places) == set(RUNS) - {EVENTS} == {name for names in PAPER_ROWS.values() for name in names}
    assert places[BASE] == [4, 5, 6, 7, 8, 9, 10, 11]


def test_work_is_what_the_paper_did(asked):
    rows = asked.set_index("run")
    assert rows.loc[BASE, "iterations"] == 600_000
    assert rows.loc["train_cnn6", "iterations"] == 440_000  # where its values were read
    assert rows.loc[BASE, "clips"] == 600_000 * 32
    assert rows.loc[BASE, "macs"] == pytest.approx(20.0e9, rel=0.01)
    assert rows.loc["train_cnn14_half", "training_set"] == round(0.5 * 1_934_187)
    packed = (20_550 + 18_887) * 10 * 32_000 * 2
    assert rows.loc["train_cnn14_small_bal_mixup", "disk_bytes"] == pytest.approx(packed, rel=0.1)
    assert rows.loc[BASE, "train_flops"] == pytest.approx(600_000 * 32 * 6 * rows.loc[BASE, "macs"], rel=0.01)


def test_each_run_finds_the_iteration_at_which_it_was_read():
    systems = set(reference.evaluation_iterations()["system"])
    assert systems <= {run.title.replace(", ", " ") for run in RUNS.values()}


def test_what_is_kept_for_the_gradients_is_within_the_estimate():
    for name in ("Cnn14", "Res1dNet31"):
        model = create_model(name, classes=10, width=0.25).train()
        own = {value.untyped_storage().data_ptr() for value in [*model.parameters(), *model.buffers()]}
        kept = {}

        def note(value, own=own, kept=kept):
            storage = value.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
            output = model(0.1 * torch.randn(2, 64_000))
        ratio = sum(kept.values()) / 2 / complexity.count(model, seconds=2).activation_bytes
        assert 0.7 < ratio < 1.1 * planner.KEPT, (name, output.logits.shape)


def test_hours_are_operations_over_the_rate(asked, reached):
    latency = pd.DataFrame({"architecture": ["CNN14", "CNN6"], "latency (ms)": [400.0, 150.0]})
    here = planner.hours_here(asked, reached, latency).set_index("run")
    rows = asked.set_index("run")
    total = rows["train_flops"] + rows["evaluate_flops"]
    assert here.loc["train_cnn6", "hours from training"] == pytest.approx(total["train_cnn6"] / 40e9 / 3600)
    clips = 3 * rows.loc[BASE, "clips"] + rows.loc[BASE, "evaluated"]
    assert here.loc[BASE, "hours from latency"] == pytest.approx(0.4 * clips / 3600)
    without = planner.hours_here(asked, reached, None)
    assert without["hours from latency"].isna().all()


def test_a_gpu_is_limited_by_its_rate_or_by_its_bandwidth(asked):
    cards = reference.gpus().set_index("name", drop=False)
    card = cards.loc["A100 SXM4 80 GB"]
    slow, fast = (planner.gpu_hours(asked, card, precision, 0.4, 0.7) for precision in ("fp32", "tf32"))
    assert (fast < slow).all()
    starved = planner.gpu_hours(asked, card, "fp32", 0.4, 0.001)
    assert (starved > 10 * slow).all()
    volta = cards.loc["Tesla V100 SXM2 32 GB"]
    assert planner.gpu_hours(asked, volta, "tf32", 0.4, 0.7).equals(planner.gpu_hours(asked, volta, "fp32", 0.4, 0.7))


def test_the_reckoning_is_near_what_the_authors_report(asked):
    """Days of CNN14 on a card of their time, at two fifths of its peak: between their 3 and 7."""
    card = reference.gpus().set_index("name", drop=False).loc["Tesla V100 SXM2 32 GB"]
    stated = reference.training_time()
    days = planner.gpu_hours(asked, card, "fp32", 0.4, 0.7).iloc[0] / 24
    assert stated["days_low"].min() <= days <= stated["days_high"].max()


def test_data_sheets_are_consistent_and_named():
    cards = reference.gpus()
    assert cards["name"].is_unique
    assert cards["source"].str.contains("NVIDIA").all()
    assert (cards["half_tflops"] > cards["fp32_tflops"]).all()
    assert set(planner.HEADLINE) <= set(cards["name"])


def test_the_tables_figure_and_sentence(asked, reached):
    here = planner.hours_here(asked, reached, None)
    table = planner.runs_table(asked, here, "tf32", 0.4, 0.7)
    assert table["system"].iloc[-1] == "all of them"
    assert table["hours here, from training"].iloc[-1] == pytest.approx(here["hours from training"].sum())
    assert np.isnan(table["hours here, from latency"].iloc[-1])
    assert "hours, Tesla V100 SXM2 32 GB (fp32)" in table.columns
    gpus = planner.gpus_table(asked, 0.4, 0.7)
    assert len(gpus) == len(reference.gpus())
    assert np.isnan(gpus.set_index("GPU").loc["T4", "hours, tf32"])
    figure = planner.figure(table, 0.4)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == table["system"].iloc[-2::-1].tolist()
    plt.close(figure)
    text = planner.sentence(table, gpus, reached, 0.4)
    assert "All 4 runs" in text
    assert "not known" not in text


def test_what_runs_reached_is_clips_times_operations(trained):
    plan = catalogue.plan("smoke")
    results = {name: trained[name] for name in (BASE, "train_cnn6")}
    table = planner.measured(plan, results, peak=100e9).set_index("run")
    model = create_model("Cnn6", classes=44, width=plan.settings("train_cnn6").width)
    flops = 6 * complexity.count(model, seconds=plan.settings("train_cnn6").seconds).macs
    assert table.loc["train_cnn6", "operations a second (1e9)"] == pytest.approx(40 * flops / 1e9)
    assert planner.matmul_flops(size=128, repeats=2) > 1e8
