"""Overriding settings of a config."""

import pytest

from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.config_options import merge_options, misspelled
from gfnet_dense.utils.errors import InputError
from tests.checkpoint.weights import Messages

NAME = "upernet_gfnet_ade20k"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("load_form", "load_from"),
        ("trian_cfg.max_iters", "train_cfg.max_iters"),
        ("train_cfg.max_iter", "train_cfg.max_iters"),
        ("param_scheduler.0.ennd", "param_scheduler.0.end"),
        ("model.decode_head.num_class", "model.decode_head.num_classes"),
    ],
)
def test_an_option_that_may_be_misspelled(key, meant):
    assert misspelled(read_config(NAME), key) == meant


@pytest.mark.parametrize(
    "key",
    [
        "train_cfg.max_iters",  # in the config
        "param_scheduler.1.end",
        "randomness.seed",  # not in it, but read
        "val_dataloader.dataset.indices",
        "model.backbone.with_cp",
        "model.backbone.drop_path_rate",
        "auto_scale_lr.enable",
        "model.decode_head.ignore_index",  # there is in_index
    ],
)
def test_other_options_are_not_taken_for_misspelled(key):
    assert misspelled(read_config(NAME), key) is None


SECTIONS = [
    ("model", None, "model in the config is None"),
    ("model", 5, "model in the config is 5"),
    ("model.test_cfg", None, "model.test_cfg is None: a segmentor"),
    ("model.data_preprocessor", None, "model.data_preprocessor is None: a segmentor"),
    ("train_dataloader", 5, "train_dataloader in the config is 5: it takes a dict, or None"),
    ("val_dataloader.dataset", None, "a dataset of val_dataloader is None"),
    ("test_dataloader.dataset.pipeline", None, "the pipeline of a dataset of test_dataloader is N"),
    ("train_dataloader.dataset.dataset", 3, "a dataset of train_dataloader is 3"),
    ("train_dataloader.dataset.datasets", [None], "a dataset of train_dataloader is None"),
    ("model.backbone.arch.dims.0", 1, "do not fit the config: "),
]


@pytest.mark.parametrize(("key", "value", "sentence"), SECTIONS)
def test_a_section_of_another_form_is_refused_in_one_sentence(key, value, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        merge_options(read_config(NAME), {key: value})
    assert "\n" not in str(error.value)


def test_a_key_below_a_setting_that_is_none_is_refused_in_one_sentence():
    cfg = read_config(NAME)
    with pytest.raises(InputError, match="a key leads into a value that is no dict"):
        merge_options(cfg, {"default_hooks": None, "default_hooks.logger.interval": 1})


@pytest.mark.parametrize(
    "name, options, told",
    [
        (
            "mask-rcnn_gfnet-h-ti_own-data",
            {"data_root": "x"},
            "such as test_dataloader.dataset.data_root",
        ),
        ("mask-rcnn_gfnet-h-ti_own-data", {"classes": ["a"]}, "_dataloader.dataset.metainfo.class"),
        (NAME, {"norm_cfg.type": "BN"}, "such as model.decode_head.norm_cfg"),
        (NAME, {"train_pipeline": []}, "settings that were computed from train_pipeline stay as "),
        (NAME, {"model.backbone.with_cp": True, "load_from": "x.pth", "work_dir": "x"}, None),
        (NAME, {"randomness.seed": 1, "my_own_setting": 1, "tta_model.type": "x"}, None),
    ],
)
def test_a_variable_of_the_config_is_told_to_change_nothing(name, options, told):
    cfg = read_config(name)
    with Messages() as messages:
        merge_options(cfg, options)
    messages = [message for message in messages if "a variable of the config" in message]
    assert (told in messages[0]) if told else not messages
