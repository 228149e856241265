"""Figures 1 and 2: the boxes follow from the models, and what is drawn can be read."""

import io
import itertools
import warnings

import matplotlib.pyplot as plt
import pytest
import torch

from pannslib import create_model
from pannslib.report import diagrams, use_style


def model(name: str, **options):
    with torch.device("meta"):
        return create_model(name, **options)


@pytest.fixture(scope="module")
def wavegram():
    return diagrams.wavegram_logmel_boxes(model("Wavegram_Logmel_Cnn14"))


@pytest.fixture(scope="module")
def transfer():
    return diagrams.transfer_boxes(model("Cnn14"), model("Cnn14", classes=50), "ESC-50", seconds=5)


def test_figure_1_has_the_shapes_of_section_3(wavegram):
    boxes = wavegram.set_index("box")
    assert boxes.loc["pre_block3", "output_shape"] == "128 x 1,000"  # 100 steps a second
    assert boxes.loc["reshape: the Wavegram", "output_shape"] == "4 x 1,000 x 32"
    assert boxes.loc["pre_block4", "output_shape"] == boxes.loc["conv_block1", "output_shape"] == "64 x 500 x 32"
    assert boxes.loc["concatenate", "output_shape"] == "128 x 500 x 32"
    assert boxes.loc["fc_audioset", "output_shape"] == "527"


def test_every_box_takes_what_the_one_before_gives(wavegram):
    for _, part in wavegram[~wavegram["group"].isin(["data", "join"])].groupby("group"):
        for before, after in itertools.pairwise(part.itertuples()):
            assert before.output_shape == after.input_shape, (before.box, after.box)


def test_figure_2_freezes_the_network_in_b_alone(transfer):
    networks = transfer[transfer["box"] == "PANN"].set_index("panel")
    assert networks["trained"].to_dict() == {"a": True, "b": False, "c": True}
    assert networks["start"].to_dict() == {"a": "random", "b": "from (a)", "c": "from (a)"}
    totals = transfer.groupby("panel")["parameters"].sum()
    assert totals["a"] == 80_753_615  # Table XII
    heads = transfer[transfer["box"].str.startswith("FC ")].set_index("panel")["parameters"]
    assert heads.to_dict() == {"a": 2049 * 527, "b": 2049 * 50, "c": 2049 * 50}


@pytest.mark.parametrize("name", ["wavegram_logmel", "transfer"])
def test_no_text_covers_another_or_leaves_the_figure(name, wavegram, transfer):
    use_style()
    figure = getattr(diagrams, name)(wavegram if name == "wavegram_logmel" else transfer)
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    assert len(texts) > 40
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0, text
        assert box.y1 <= figure.bbox.y1, text
    for (one, first), (other, second) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        # lines of one box touch at their descenders
        assert not first.padded(-2).overlaps(second.padded(-2)), (one, other)
    plt.close(figure)


@pytest.mark.parametrize("name", ["wavegram_logmel", "transfer"])
def test_every_line_of_a_box_stays_inside_it(name, wavegram, transfer):
    use_style()
    figure = getattr(diagrams, name)(wavegram if name == "wavegram_logmel" else transfer)
    figure.draw_without_rendering()
    rectangles = [patch.get_window_extent() for patch in figure.axes[0].patches]
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        holder = [r for r in rectangles if text.get_text() and r.contains((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)]
        assert all(r.x0 <= box.x0 and box.x1 <= r.x1 for r in holder), text
    plt.close(figure)


def test_saving_moves_nothing(transfer):
    use_style()
    figure = diagrams.transfer(transfer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the style sheet's constrained layout would warn, and move the axes
        for _ in range(2):  # the first one changes the layout that the second one finds
            figure.savefig(io.BytesIO())
    assert figure.axes[0].get_position().bounds == (0, 0, 1, 1)
    plt.close(figure)
