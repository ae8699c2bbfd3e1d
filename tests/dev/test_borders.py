import json

import numpy as np
import pytest
from mmengine.registry import MODELS, init_default_scope

import borders
from gfnet_dense.utils.errors import InputError
from pages import insert_block
from tests.markdown import read_table

NATIVE, SMALL, CROPS = (128, [128]), (56, [128]), (128, [96, 128, 160])
EXPECTED = {  # border, (img_size, crops), whether it starts from trained weights
    "pretraining": ("circular", (56, [56]), False),
    "circular-native": ("circular", NATIVE, False),
    "zeros-native": ("zeros", NATIVE, False),
    "circular-small": ("circular", SMALL, False),
    "zeros-small": ("zeros", SMALL, False),
    "circular-crops": ("circular", CROPS, False),
    "zeros-crops": ("zeros", CROPS, False),
    "tuned-circular": ("circular", NATIVE, True),
    "tuned-zeros": ("zeros", NATIVE, True),
    "tuned-circular-small": ("circular", SMALL, True),
    "tuned-zeros-small": ("zeros", SMALL, True),
}


def test_expected_variants_are_all_variants():
    assert list(borders.VARIANTS) == list(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_config_of_each_variant_has_its_border_sizes_and_weights(name):
    border, (img_size, crops), starts = EXPECTED[name]
    cfg = borders.build_config(name, seed=2)
    assert cfg.work_dir == f"work_dirs/borders/{name}/seed2"
    assert cfg.randomness.seed == 2
    (crop,) = (
        t
        for t in cfg.train_dataloader.dataset.pipeline
        if t["type"] in ("RandomCrop", "RandomChoice")
    )
    choices = [choice[0] for choice in crop.get("transforms", [[crop]])]
    assert [choice["crop_size"] for choice in choices] == [(side, side) for side in crops]
    assert cfg.model.test_cfg.crop_size == (128, 128)
    weights = cfg.model.backbone.get("init_cfg", {}).get("checkpoint")
    assert weights == ("work_dirs/borders/pretraining/seed2/iter_600.pth" if starts else None)
    init_default_scope("mmseg")
    backbone = MODELS.build(cfg.model).backbone
    assert backbone.grids[0] == (img_size // 4, img_size // 4)
    assert {block.filter.border for stage in backbone.blocks for block in stage} == {border}
    assert [group["end"] for group in cfg.param_scheduler] == [60, 600]


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """Replace training and testing by stubs; return the list of trainings that are requested."""
    monkeypatch.chdir(tmp_path)
    order = []

    def train(name, seed):
        order.append((name, seed))
        borders.folder(name, seed).mkdir(parents=True, exist_ok=True)
        borders.checkpoint(name, seed).touch()

    def run_sweep(cases, path, **kwargs):
        write_results(path, 50)

    monkeypatch.setattr(borders, "train", train)
    monkeypatch.setattr(borders, "run_sweep", run_sweep)
    monkeypatch.setattr(borders.transfer, "cases", lambda **kwargs: [])
    return order


def write_results(path, value, status="ok"):
    records = [{"mIoU": value, "metric": "mIoU"}]
    entries = [
        dict(series=series, size=size, status=status, records=records)
        for series in ("slide", "whole, trigonometric, zeros (as trained)")
        for size in (1, 1.5, 2)
    ]
    path.write_text(json.dumps(dict(complete=True, cases=entries)))


def test_complete_trainings_and_tests_are_not_repeated(trainings):
    metrics = borders.run()
    assert [name for name, seed in trainings if seed == 0] == list(EXPECTED)  # pretraining first
    assert len(set(trainings)) == len(trainings) == 33
    assert len(metrics) == 10 and "pretraining" not in metrics
    shapes = {values.shape for ways in metrics.values() for values in ways.values()}
    assert shapes == {(3, 3)}
    trainings.clear()
    borders.checkpoint("zeros-native", 1).unlink()
    write_results(borders.folder("zeros-crops", 0) / "transfer.json", 0, "time limit")
    borders.run()
    # The first lacks results, but train keeps its checkpoint; the second lacks its checkpoint.
    assert trainings == [("zeros-crops", 0), ("zeros-native", 1)]


def test_error_names_a_failed_test(trainings, monkeypatch):
    monkeypatch.setattr(
        borders, "run_sweep", lambda cases, path, **kwargs: write_results(path, 0, "time limit")
    )
    with pytest.raises(InputError, match="circular-native/seed0, slide at 1: time limit"):
        borders.run()


def test_table_has_the_spread_of_differences_paired_by_seed():
    # The means 20 and 22 have spreads of 10 and 11, but the differences are 1, 2 and 3.
    slide = np.array([[10.0, 40, 1], [20, 40, 1], [30, 40, 1]])
    whole = slide + [[1, 0, -1], [2, 0, -1], [3, 0, -1]]
    metrics = {
        "zeros-native": {"slide": slide, "whole, trigonometric": whole},
        "tuned-circular-small": {"slide": slide[:1]},
    }
    native = "zeros, filters for 128, crops of 128"
    tuned = "circular, filters for 56, crops of 128, from circular weights"
    differences = ("22.0 ± 11.0 (+2.0 ± 1.0)", "40.0 ± 0.0 (+0.0 ± 0.0)", "0.0 ± 0.0 (-1.0 ± 0.0)")
    assert read_table(borders.format_table(metrics)) == [
        ["trained with", "tested", "x 1", "x 1.5", "x 2"],
        [native, "slide", "20.0 ± 10.0", "40.0 ± 0.0", "1.0 ± 0.0"],
        [native, "whole, trigonometric", *differences],
        [tuned, "slide", "10.0", "40.0", "1.0"],
    ]


def test_spread_is_the_sample_standard_deviation():
    values = np.random.default_rng(0).normal(size=(5, 3))
    by_hand = np.sqrt(((values - values.mean(0)) ** 2).sum(0) / 4)
    np.testing.assert_allclose(borders.spread(values), by_hand)
    assert not borders.spread(values[:1]).any()  # unknown for one seed: no error bar


def test_plot_has_a_panel_for_each_training_that_compares_borders():
    def constant(value):
        return np.full((3, 3), value)

    ways = {
        "slide": constant(40.0),
        "whole, trigonometric": constant(41.0),
        "whole, bilinear": constant(9.0),
    }
    names = ["circular-native", "zeros-native", "circular-crops"]
    first, second = borders.draw_plot(dict.fromkeys(names, ways)).axes
    assert [c.get_label() for c in first.containers] == [
        "circular, slide",
        "circular, whole",
        "zeros, slide",
        "zeros, whole",
    ]
    assert [c[0].get_ydata().tolist() for c in second.containers] == [[40] * 3, [41] * 3]


def test_insert_block_replaces_the_block_of_the_same_name():
    page = "a\n<!-- properties -->\np\n<!-- end -->\nb\n"
    once = insert_block(page, "borders", r"t\1")
    assert once == page + "\n<!-- borders -->\nt\\1\n<!-- end -->\n"
    moved = once.replace("a\n", "") + "behind\n"
    assert insert_block(moved, "borders", "new") == moved.replace(r"t\1", "new")
