import numpy as np
import pytest
from PIL import Image

from gfnet_dense.demo import dataset
from gfnet_dense.demo.dataset import write_ade20k
from gfnet_dense.demo.scenes import ADE_INDEX, draw_scene


def test_layout_of_ade20k(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "NUM_IMAGES", {"training": 3, "validation": 2})
    root = write_ade20k(tmp_path)
    assert root == tmp_path / "v1" / "ADEChallengeData2016"
    for split, names in {
        "training": [f"ADE_train_{i:08d}" for i in (1, 2, 3)],
        "validation": [f"ADE_val_{i:08d}" for i in (1, 2)],
    }.items():
        assert sorted(p.stem for p in (root / "images" / split).glob("*.jpg")) == names
        assert sorted(p.stem for p in (root / "annotations" / split).glob("*.png")) == names
    labels = np.array(Image.open(root / "annotations/validation/ADE_val_00000002.png"))
    np.testing.assert_array_equal(labels, draw_scene(4).labels)  # seeds 0..2 are for training
    assert set(np.unique(labels)) <= set(ADE_INDEX.values())


def test_written_once_and_the_same_for_a_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "NUM_IMAGES", {"training": 2, "validation": 1})
    first, again = write_ade20k(tmp_path / "a"), write_ade20k(tmp_path / "b")
    files = sorted(p.relative_to(first) for p in first.rglob("*.*"))
    assert len(files) == 6
    assert all((first / f).read_bytes() == (again / f).read_bytes() for f in files)
    time = (first / files[0]).stat().st_mtime_ns
    assert write_ade20k(tmp_path / "a") == first
    assert (first / files[0]).stat().st_mtime_ns == time
    other = write_ade20k(tmp_path / "c", seed=1)
    assert any((first / f).read_bytes() != (other / f).read_bytes() for f in files)


def test_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(seed):
        if seed == 3:
            raise KeyboardInterrupt
        return draw_scene(seed, 64, 64)

    monkeypatch.setattr(dataset, "draw_scene", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_ade20k(tmp_path)
    assert not list(tmp_path.glob("v1/*")) and not list(tmp_path.glob("v1/.*"))


def test_a_faster_process_wins(tmp_path, monkeypatch):
    """As in a distributed run, where all of them draw."""
    monkeypatch.setattr(dataset, "NUM_IMAGES", {"training": 1, "validation": 1})
    drawn = []

    def slow(seed):
        if not drawn:
            drawn.append(seed)
            write_ade20k(tmp_path)
        return draw_scene(seed, 64, 64)

    monkeypatch.setattr(dataset, "draw_scene", slow)
    assert len(list(write_ade20k(tmp_path).rglob("*.png"))) == 2
    assert [p.name for p in (tmp_path / "v1").iterdir()] == ["ADEChallengeData2016"]
