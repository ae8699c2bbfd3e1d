"""Batches of one image: heads that cannot train on them are named before the first step."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn
from torch.utils.data import DataLoader

from gfnet_dense.engine.runner.batch_norm import check_batches, explained, norm_behind_pooling
from gfnet_dense.utils.errors import InputError
from tests.commands import CONFIG, SHORT, error_of, run, tool
from tests.toy import toy_runner

ONE = dict(in_channels=8, channels=8, num_classes=3, norm_cfg=dict(type="BN"))
FOUR = dict(ONE, in_channels=[8] * 4, in_index=[0, 1, 2, 3])
BEFORE, FIRST_STEP, TRAINS = "refused before the training", "refused at the first step", "trains"
# {head of mmsegmentation: (its arguments, what happens with one image a step)}
HEADS = {
    "ANNHead": (dict(ONE, in_channels=[8, 8], in_index=[2, 3], project_channels=8), TRAINS),
    "APCHead": (dict(ONE, pool_scales=(1, 2)), FIRST_STEP),  # pools inside its forward
    "ASPPHead": (dict(ONE, dilations=(1, 2)), BEFORE),
    "DAHead": (dict(ONE, pam_channels=4), TRAINS),
    "DMHead": (dict(ONE, filter_sizes=(1, 3)), TRAINS),
    "DNLHead": (ONE, TRAINS),
    "DepthwiseSeparableASPPHead": (
        dict(ONE, dilations=(1, 2), c1_in_channels=8, c1_channels=4),
        BEFORE,
    ),
    "DepthwiseSeparableFCNHead": (ONE, TRAINS),
    "EMAHead": (dict(ONE, ema_channels=8, num_bases=4, num_stages=1), TRAINS),
    "EncHead": (dict(FOUR, num_codes=4), TRAINS),
    "FCNHead": (ONE, TRAINS),
    "FPNHead": (dict(FOUR, feature_strides=[4, 8, 16, 32]), TRAINS),
    "GCHead": (ONE, TRAINS),
    "ISAHead": (dict(ONE, isa_channels=4), TRAINS),
    "NLHead": (ONE, TRAINS),
    "PSPHead": (dict(ONE, pool_scales=(1, 2)), BEFORE),
    "PSPHead without scale 1": (dict(ONE, pool_scales=(2, 3)), TRAINS),
    "PSPHead with GN": (
        dict(ONE, pool_scales=(1, 2), norm_cfg=dict(type="GN", num_groups=2)),
        TRAINS,
    ),
    "PSPHead with SyncBN of one process": (
        dict(ONE, pool_scales=(1, 2), norm_cfg=dict(type="SyncBN")),
        BEFORE,
    ),
    "SegformerHead": (FOUR, TRAINS),
    "UPerHead": (dict(FOUR, pool_scales=(1, 2)), BEFORE),
}


def build_head(name):
    init_default_scope("mmseg")
    return MODELS.build(dict(type=name.split()[0], **HEADS[name][0])).train()


@pytest.mark.parametrize("name", HEADS)
def test_heads_that_cannot_train_on_one_image_are_found(name):
    head, expected = build_head(name), HEADS[name][1]

    def train(number):
        with explained():
            head([torch.randn(number, 8, 16, 16) for _ in range(4)])

    train(2)
    if expected == TRAINS:
        train(1)
        assert norm_behind_pooling(head) is None
        return
    with pytest.raises(InputError, match=r"\[1, 8, 1, 1\].* set train_dataloader.batch_size to 2"):
        train(1)
    assert bool(norm_behind_pooling(head)) == (expected == BEFORE)


@pytest.mark.parametrize(
    "count, size, drop_last, message",
    [
        (8, 1, False, r"train_dataloader.batch_size is 1, but image_pool.1.bn is a batch norm"),
        (9, 4, False, r"the last batch .* one image \(9 images in batches of 4\).*drop_last=True"),
        (9, 4, True, None),
        (10, 4, False, None),
        (8, 4, False, None),
        (1, 4, False, "the last batch"),
    ],
)
def test_batches_of_one_image_are_found_also_at_the_end_of_an_epoch(
    count, size, drop_last, message
):
    loader = DataLoader(range(count), batch_size=size, drop_last=drop_last)
    head = build_head("ASPPHead")
    sizes = [len(batch) for batch in loader]
    assert (1 in sizes) == bool(message)  # what the loader really yields
    if message is None:
        check_batches(head, loader)
        return
    with pytest.raises(InputError, match=message):
        check_batches(head, loader)
    check_batches(build_head("FCNHead"), loader)


def test_a_frozen_norm_needs_no_batch():
    class Frozen(nn.Sequential):
        def train(self, mode=True):
            return super().train(False)

    check_batches(Frozen(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4)), DataLoader(range(4)))


def test_the_last_batch_of_an_epoch_that_a_norm_refuses_is_one_sentence(tmp_path):
    """ToyNet's batch norm follows a linear layer, where no check before the training sees it."""
    runner = toy_runner(tmp_path, max_epochs=1)
    runner._train_dataloader["dataset"]["length"] = 7
    with pytest.raises(InputError, match="perhaps the last one of an epoch"):
        runner.train()
    assert runner.iter == 3


def test_other_errors_of_a_training_are_unchanged():
    with pytest.raises(ValueError, match="^other$") as error, explained():
        raise ValueError("other")
    assert not isinstance(error.value, InputError)


def test_upernet_with_one_image_a_step_stops_before_the_first_iteration(tmp_path, demo_data):
    (tmp_path / "data").symlink_to(demo_data)
    options = SHORT.replace("batch_size=2", "batch_size=1").split()
    result = run(tool("train", CONFIG, "--demo", "--cfg-options", *options), tmp_path)
    assert "train_dataloader.batch_size is 1, but decode_head.psp_modules.0.1" in error_of(result)
    assert "Iter(train)" not in result.stdout
