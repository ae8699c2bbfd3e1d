import json

import numpy as np
import pytest
from mmengine.registry import MODELS, init_default_scope

import borders
from pages import insert_block
from tests.markdown import read_table

VARIANTS = {  # scenes, border and img_size
    "street-circular-42": ("street", "circular", 42),
    "mirrored-circular-42": ("mirrored", "circular", 42),
    "street-zeros-42": ("street", "zeros", 42),
    "mirrored-zeros-42": ("mirrored", "zeros", 42),
    "street-circular-96": ("street", "circular", 96),
    "mirrored-circular-96": ("mirrored", "circular", 96),
}


@pytest.mark.parametrize("variant", borders.VARIANTS, ids=lambda variant: variant.name)
def test_config_of_each_variant_has_its_scenes_border_and_sizes(variant):
    scenes, border, img_size = VARIANTS[variant.name]
    assert len(borders.VARIANTS) == len(VARIANTS)
    cfg = borders.build_config(variant, seed=2)
    assert cfg.work_dir == f"work_dirs/borders/{variant.name}/seed2"
    assert cfg.randomness.seed == 2
    for split in ("train", "val", "test"):
        dataset = cfg[f"{split}_dataloader"].dataset
        assert dataset.data_root.startswith(f"work_dirs/borders/data/{scenes}/")
        sizes = {t["type"]: t.get("scale", t.get("crop_size")) for t in dataset.pipeline}
        if split == "train":
            assert (sizes["RandomResize"], sizes["RandomCrop"]) == ((768, 192), (96, 96))
        else:
            assert sizes["Resize"] == (768, 192)
    assert cfg.model.test_cfg.crop_size == cfg.model.data_preprocessor.size == (96, 96)
    init_default_scope("mmseg")
    backbone = MODELS.build(cfg.model).backbone
    assert backbone.grids[0] == (-(-img_size // 4),) * 2
    assert {block.filter.border for stage in backbone.blocks for block in stage} == {border}
    assert [group["end"] for group in cfg.param_scheduler] == [40, 400]


def test_opposite_sides_differ_in_street_scenes_and_are_alike_in_mirrored_ones():
    def shares(labels):
        return np.bincount(labels.ravel(), minlength=151) / labels.size

    for name, draw in borders.SCENES.items():
        scenes = [draw(seed) for seed in range(8)]
        assert {scene.labels.shape for scene in scenes} == {(192, 256)}
        assert {scene.image.shape for scene in scenes} == {(192, 256, 3)}
        top, bottom = (
            np.mean([shares(scene.labels[rows]) for scene in scenes], axis=0)
            for rows in (slice(0, 20), slice(-20, None))
        )
        overlap = np.minimum(top, bottom).sum()  # 1 for equal shares of the classes
        assert overlap > 0.99 if name == "mirrored" else overlap < 0.1


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """Replace the processes by stubs; return the list of those that are started."""
    monkeypatch.chdir(tmp_path)
    order = []

    def run(function, variant, seed):
        order.append((function.__name__, variant.name, seed))
        borders.folder(variant, seed).mkdir(parents=True, exist_ok=True)
        if function is borders._train:
            borders.checkpoint(variant, seed).touch()
        else:
            ways = ("slide", "whole, trigonometric, zeros")
            borders._results(variant, seed).write_text(
                json.dumps({way: [40, 50, 60] for way in ways})
            )

    monkeypatch.setattr(borders, "_run_in_process", run)
    return order


def test_complete_trainings_and_tests_are_not_repeated(processes):
    metrics = borders.run()
    assert len(set(processes)) == len(processes) == 2 * 3 * len(VARIANTS)
    assert list(metrics) == list(VARIANTS)
    shapes = {values.shape for ways in metrics.values() for values in ways.values()}
    assert shapes == {(3, 3)}
    processes.clear()
    first, second = borders.VARIANTS[2:4]
    borders.checkpoint(first, 1).unlink()
    borders._results(second, 0).unlink()
    borders.run()
    assert processes == [("_test", second.name, 0), ("_train", first.name, 1)]


def metrics_of(ways):
    return {name: ways for name in VARIANTS}


def test_table_has_the_spread_of_differences_paired_by_seed():
    # The means 20 and 22 have spreads of 10 and 11, but the differences are 1, 2 and 3.
    slide = np.array([[10.0, 40, 1], [20, 40, 1], [30, 40, 1]])
    whole = slide + [[1, 0, -1], [2, 0, -1], [3, 0, -1]]
    ways = {"slide": slide, "whole, trigonometric, zeros": whole}
    cells = ["20.0 ± 10.0", "40.0 ± 0.0", "1.0 ± 0.0"] * 2
    differences = ["22.0 ± 11.0 (+2.0 ± 1.0)", "40.0 ± 0.0 (+0.0 ± 0.0)", "0.0 ± 0.0 (-1.0 ± 0.0)"]
    differences *= 2
    table = read_table(borders.format_table(metrics_of(ways)))
    columns = [
        f"{scenes}, x {scale}" for scenes in ("street", "mirrored") for scale in (0.5, 1, 1.5)
    ]
    assert table[0] == ["trained with", "tested", *columns]
    expected = []
    for title in ("circular, filters for 42", "zeros, filters for 42", "circular, filters for 96"):
        expected += [[title, "slide", *cells]]
        expected += [[title, "whole, trigonometric, zeros", *differences]]
    assert table[1:] == expected


def test_spread_is_the_sample_standard_deviation():
    values = np.random.default_rng(0).normal(size=(5, 3))
    by_hand = np.sqrt(((values - values.mean(0)) ** 2).sum(0) / 4)
    np.testing.assert_allclose(borders.spread(values), by_hand)
    assert not borders.spread(values[:1]).any()  # unknown for one seed: no error bar


def test_plot_has_a_bar_for_each_training_and_border_in_the_test():
    def constant(value):
        return np.full((3, 3), value)

    ways = {
        "slide": constant(40.0),
        "slide, zeros": constant(7.0),
        "whole, trigonometric, circular": constant(38.0),
        "whole, trigonometric, zeros": constant(41.0),
        "whole, bicubic, circular": constant(9.0),
    }
    panels = borders.draw_plot(metrics_of(ways)).axes
    assert [axis.get_title() for axis in panels] == ["street scenes", "mirrored scenes"]
    for axis in panels:
        assert [bar.get_height() for bar in axis.patches] == [-2, 1] * 3


def test_insert_block_replaces_the_block_of_the_same_name():
    page = "a\n<!-- properties -->\np\n<!-- end -->\nb\n"
    once = insert_block(page, "borders", r"t\1")
    assert once == page + "\n<!-- borders -->\nt\\1\n<!-- end -->\n"
    moved = once.replace("a\n", "") + "behind\n"
    assert insert_block(moved, "borders", "new") == moved.replace(r"t\1", "new")
