"""Tables I to III: the layers as the paper prints them, the sizes as the model has them."""

import pytest
import torch

from pannslib import create_model
from pannslib.report import architectures


def model(name: str, **options):
    with torch.device("meta"):
        return create_model(name, **options)


def rows(name: str) -> list[tuple[str, str]]:
    return [(str(layer), architectures.size(layer.outputs)) for layer in architectures.layers(model(name))]


def test_cnn14_is_table_1s_last_column():
    channels = (64, 128, 256, 512, 1024, 2048)
    found = rows("Cnn14")
    assert found[0] == ("log-mel spectrogram, BN", "1 x 1,001 x 64")
    blocks = found[1:-3]
    assert [text for text, _ in blocks[0::2]] == [f"(3 x 3 @ {maps}, BN, ReLU) x 2" for maps in channels]
    assert [text for text, _ in blocks[1::2]] == ["pooling 2 x 2"] * 5
    assert [size for _, size in blocks[1::2]] == [
        "64 x 500 x 32", "128 x 250 x 16", "256 x 125 x 8", "512 x 62 x 4", "1,024 x 31 x 2"
    ]  # fmt: skip
    assert found[-3:] == [("global pooling", "2,048"), ("FC 2048, ReLU", "2,048"), ("FC 527, sigmoid", "527")]


def test_the_pooling_that_only_the_authors_code_has_is_there():
    assert ("pooling 2 x 2", "512 x 62 x 4") in rows("Cnn6")


def test_vggish_sees_patches():
    found = rows("VGGish")
    assert found[0] == ("log-mel spectrogram", "1 x 96 x 64")
    assert ("max pooling 2 x 2", "512 x 6 x 4") in found
    assert found[-3:] == [("flatten", "12,288"), ("(FC 4096, ReLU) x 2", "4,096"), ("FC 527, sigmoid", "527")]


@pytest.mark.parametrize(
    ("name", "block", "blocks", "expansion"),
    [
        ("ResNet22", "BasicB", (2, 2, 2, 2), 1),
        ("ResNet38", "BasicB", (3, 4, 6, 3), 1),
        ("ResNet54", "BottleneckB", (3, 4, 6, 3), 4),
    ],
)
def test_residual_stages_are_table_2s(name, block, blocks, expansion):
    sizes = ("500 x 32", "250 x 16", "125 x 8", "62 x 4")
    stages = [row for row in rows(name) if block in row[0]]
    assert stages == [
        (f"({block} @ {maps}) x {count}", f"{maps * expansion:,} x {size}")
        for maps, count, size in zip((64, 128, 256, 512), blocks, sizes, strict=True)
    ]


def test_a_mobilenets_pooling_stands_below_its_block_and_has_the_size():
    first, second = rows("MobileNetV1"), rows("MobileNetV2")
    at = first.index(("V1Block @ 128", ""))
    assert first[at + 1 : at + 3] == [("pooling 2 x 2", "128 x 250 x 16"), ("V1Block @ 128", "128 x 250 x 16")]
    assert ("(V1Block @ 512) x 5", "512 x 62 x 4") in first
    at = second.index(("(V2Block, t=6 @ 24) x 2", ""))
    assert second[at + 1] == ("pooling 2 x 2", "24 x 250 x 16")
    assert ("V2Block, t=1 @ 16", "16 x 500 x 32") in second
    assert ("1 x 1 @ 1280, BN, ReLU6", "1,280 x 31 x 2") in second


def test_sizes_are_those_of_a_real_clip():
    small = create_model("Cnn6", classes=5, width=0.0625)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    seen = {}
    small.conv_block3.bn1.register_forward_hook(
        lambda module, inputs, output: seen.update(size=tuple(output.shape[1:]))
    )
    layers = architectures.layers(small, seconds=1.7)
    noted = [layer.outputs for layer in layers if layer.part == "conv_block3" and not layer.is_pooling]
    with torch.no_grad():
        small.eval()(torch.zeros(1, int(1.7 * 32_000)))
    assert noted == [seen["size"]]
    assert layers[-1].outputs == (5,)
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_systems_stand_side_by_side_at_their_poolings_and_ends():
    table = architectures.table({"CNN6": model("Cnn6"), "CNN14": model("Cnn14")})
    assert list(table.columns) == ["CNN6", "CNN6: size", "CNN14", "CNN14: size"]
    for depth in ("64 x 500 x 32", "512 x 62 x 4"):
        row = table[table["CNN14: size"] == depth].iloc[0]
        assert row["CNN6: size"] == depth
    assert list(table["CNN6"].iloc[-3:]) == ["global pooling", "FC 512, ReLU", "FC 527, sigmoid"]
    assert (table["CNN6"] == "").sum() == 3  # CNN14's last two blocks and their pooling
