"""--balance: what it sets in the config of a training."""

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.datasets.rare_classes import class_weights
from gfnet_dense.engine.runner.balancing import balance
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from tests.commands import SHORT, run, tool
from tests.conftest import ROOT, needs_operators
from tests.own_config import write_own_config
from tests.small_data import write_maps


@pytest.fixture
def config(tmp_path):
    """A function from lines of a config to the config for own data with these lines."""
    write_maps(tmp_path)

    def write(classes=("background", "road", "car"), more=""):
        path, is_binary = tmp_path / "my_dataset.py", len(classes) == 2
        lines = dict(data_root=str(tmp_path), classes=list(classes), sigmoid=is_binary)
        assert write_own_config(path, "fpn_gfnet-h-ti_own-data", **lines) == 3
        path.write_text(path.read_text() + more)
        return path

    return write


def pixels(root):
    """Count the pixels of each label with Pillow alone."""
    maps = [np.array(Image.open(path)) for path in sorted(root.glob("labels/train/*.png"))]
    return np.bincount(np.concatenate([each.ravel() for each in maps]))


def test_weights_and_a_lovasz_term_are_set_in_all_heads(config, tmp_path):
    more = """
auxiliary_head = dict(type="FCNHead", num_classes=3, in_channels=256, channels=8, in_index=2)
auxiliary_head["loss_decode"] = dict(type="CrossEntropyLoss", loss_weight=0.4, avg_non_ignore=True)
model.update(auxiliary_head=auxiliary_head)
"""
    cfg = read_config(config(more=more))
    table = balance(cfg, ["weights", "lovasz"])
    weights = class_weights(pixels(tmp_path).tolist())
    for head, factor in ((cfg.model.decode_head, 1.0), (cfg.model.auxiliary_head, 0.4)):
        entropy, lovasz = head.loss_decode
        assert entropy.class_weight == weights and entropy.loss_weight == factor
        assert lovasz.type == "LovaszLoss" and lovasz.loss_weight == factor
        assert lovasz.loss_type == "multi_class" and "avg_non_ignore" not in entropy
    assert cfg.train_dataloader.sampler.type == "InfiniteSampler"
    assert [line.split()[0] for line in table.splitlines()] == [
        "class",
        "background",
        "road",
        "car",
    ]
    share = pixels(tmp_path)[1] / pixels(tmp_path).sum()
    assert table.splitlines()[2].split() == ["road", f"{share:.2%}", f"{weights[1]:.3g}"]


def test_a_single_output_channel_has_the_weight_of_its_foreground(config, tmp_path):
    for path in tmp_path.glob("labels/*/*.png"):
        Image.fromarray((np.array(Image.open(path)) == 2).astype(np.uint8)).save(path)
    cfg = read_config(config(["background", "crack"]))
    assert cfg.model.decode_head.out_channels == 1 and cfg.model.decode_head.num_classes == 2
    balance(cfg, ["weights", "lovasz"])
    entropy, lovasz = cfg.model.decode_head.loss_decode
    background, crack = class_weights(pixels(tmp_path).tolist())
    assert entropy.use_sigmoid and entropy.class_weight == [crack / background]
    assert lovasz.loss_type == "binary"


def test_the_sampler_alone_leaves_the_losses(config):
    cfg = read_config(config())
    before = cfg.model.decode_head.to_dict()
    table = balance(cfg, ["sampler"])
    assert cfg.model.decode_head.to_dict() == before and "weight" not in table
    assert cfg.train_dataloader.sampler == dict(type="gfnet_dense.RareClassSampler")


@needs_operators
@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("atss_gfnet-h-ti_own-data", "--balance is for segmentation; for detectors wrap"),
        ("mask2former_gfnet-h-ti_ade20k", "model.decode_head, Mask2FormerHead, has none over"),
    ],
)
def test_other_models_are_refused(base, sentence, config):
    cfg = read_config(ROOT / "configs" / f"{base}.py")
    cfg.train_dataloader.dataset = read_config(config()).train_dataloader.dataset
    with pytest.raises(InputError, match=sentence):
        balance(cfg, ["weights"])


@pytest.mark.parametrize("classes", [("background", "road", "car"), ("background", "crack")])
def test_a_training_with_all_of_it_runs_and_resumes(classes, config, tmp_path):
    for path in tmp_path.glob("labels/*/*.png"):
        labels = np.array(Image.open(path))
        Image.fromarray(np.minimum(labels, len(classes) - 1)).save(path)
    path = config(classes, "model.update(backbone=dict(init_cfg=None))\n")
    options = [*SHORT.split(), "train_cfg.max_iters=2", "default_hooks.checkpoint.interval=1"]
    options += ["train_dataloader.batch_size=2", "model.data_preprocessor.size=(64,64)"]
    options += ["train_dataloader.dataset.pipeline.2.scale=(128,64)"]
    options += ["train_dataloader.dataset.pipeline.3.crop_size=(64,64)"]
    command = tool("train", path, "--balance", "weights", "lovasz", "sampler", "--cfg-options")
    result = run([*command, *options], tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "decode.loss_lovasz" in result.stdout and "decode.loss_ce" in result.stdout
    assert "--balance weights lovasz sampler:\nclass " in result.stdout
    options[options.index("train_cfg.max_iters=2")] = "train_cfg.max_iters=3"
    resumed = run([*command[:-1], "--resume", "--cfg-options", *options], tmp_path)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "Iter(train) [3/3]" in resumed.stdout
