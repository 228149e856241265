"""What the notebook on sound events says of its networks."""

from pannslib import models
from pannslib.report import sound_events


def test_every_network_that_classifies_frames_is_told_of():
    table = sound_events.networks()
    assert set(table.index) == {name for name in models.list_models() if name.family == "DecisionLevel"}
    assert (table["segment (s)"] == 0.32).all()
    assert table.loc["Cnn14_DecisionLevelMax", "mAP, published"] == 0.385
    assert table["mAP, published"].isna().sum() == 1  # no weights of the mean were released
