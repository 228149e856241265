"""Progress: a file where another process looks on, tqdm's bar elsewhere."""

import json

from pannslib import progress


def test_progress_goes_to_the_file_that_is_named(tmp_path, monkeypatch):
    path = tmp_path / "work.json"
    monkeypatch.setenv("PANNS_PROGRESS", str(path))
    bar = progress.bar(10, "training", initial=4)
    assert json.loads(path.read_text()) == {"title": "training", "done": 4, "total": 10, "note": ""}
    for _ in range(6):
        bar.update()
    bar.set_postfix(loss="0.5")
    bar.close()
    assert json.loads(path.read_text()) == {"title": "training", "done": 10, "total": 10, "note": "loss 0.5"}
    assert [p.name for p in tmp_path.iterdir()] == ["work.json"]


def test_without_a_file_it_is_tqdm(monkeypatch, capsys):
    monkeypatch.delenv("PANNS_PROGRESS", raising=False)
    bar = progress.bar(2, "training")
    bar.update(2)
    bar.close()
    assert "training: 100%" in capsys.readouterr().err
