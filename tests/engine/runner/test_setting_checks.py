"""Settings that mmengine accepts in silence, and that do not do what they say."""

import pytest
from mmengine.config import Config

from gfnet_dense.engine.runner.setting_checks import doubtful_settings
from gfnet_dense.utils.config import read_config
from tests.conftest import ROOT, config_param

POLY = dict(type="PolyLR", begin=0, end=100, by_epoch=False)
RGB = [123.675, 116.28, 103.53]
FILE = "data/coco/annotations/instances_val2017.json"


def config(**settings):
    """Return a config of 100 iterations with other settings."""
    base = dict(model={}, train_cfg=dict(type="IterBasedTrainLoop", max_iters=100))
    return Config({**base, "param_scheduler": [POLY], **settings})


def coco(**dataset):
    dataset = dict(type="CocoDataset", data_root="data/coco/", test_mode=True) | dataset
    evaluator = dict(type="CocoMetric", ann_file=FILE)
    return dict(val_dataloader=dict(dataset=dataset), val_evaluator=evaluator)


GOOD = {
    "a schedule as long as the training": {},
    "a warmup in iterations before epochs": dict(
        train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=12),
        param_scheduler=[
            dict(type="LinearLR", by_epoch=False, begin=0, end=500),
            dict(type="MultiStepLR", begin=0, end=12, milestones=[8, 11]),
        ],
    ),
    "epochs converted to iterations": dict(
        param_scheduler=dict(type="CosineAnnealingLR", T_max=1, convert_to_iter_based=True)
    ),
    "a schedule that ends above 0": dict(param_scheduler=[{**POLY, "end": 50, "eta_min": 1e-6}]),
    "no schedule": dict(param_scheduler=None),
    "a length that is no number, told elsewhere": dict(
        train_cfg=dict(type="IterBasedTrainLoop", max_iters="4k")
    ),
    "schedules of two optimizers": dict(param_scheduler=dict(a=[POLY], b=[POLY])),
    "means of R, G, B for R, G, B": dict(
        model=dict(data_preprocessor=dict(mean=RGB, bgr_to_rgb=True))
    ),
    "means of R, G, B for a preprocessor of mmdetection's reid": dict(
        model=dict(data_preprocessor=dict(mean=RGB, to_rgb=True))
    ),
    "means of R, G, B, the other way round": dict(
        model=dict(data_preprocessor=dict(mean=RGB, rgb_to_bgr=True))
    ),
    "means of B, G, R for B, G, R": dict(model=dict(data_preprocessor=dict(mean=RGB[::-1]))),
    "means of other images": dict(model=dict(data_preprocessor=dict(mean=[90.0, 95.0, 97.0]))),
    "the evaluator's file is the data set's": coco(
        ann_file="annotations/../annotations/instances_val2017.json"
    ),
    "names of the user's own": dict(data_root="x", classes=["a"], train_pipeline=[], lr=1),
}
DOUBTFUL = {
    "a schedule in epochs for iterations": (
        dict(param_scheduler=[dict(type="PolyLR", begin=0, end=100)]),
        "param_scheduler[0], PolyLR, counts epochs, but the training counts iterations",
    ),
    "a schedule that ends too soon": (
        dict(param_scheduler=[{**POLY, "end": 40}]),
        "the learning rate is 0 from 40 to 100 iterations",
    ),
    "a schedule that ends too late": (
        dict(param_scheduler=[{**POLY, "end": 160000}]),
        "is for 160000 iterations, the training ends at 100",
    ),
    "a milestone behind the end": (
        dict(
            train_cfg=dict(by_epoch=True, max_epochs=10),
            param_scheduler=[dict(type="MultiStepLR", end=10, milestones=[8, 11])],
        ),
        "has a milestone at 11, but the training ends at 10 epochs",
    ),
    "no iteration": (
        dict(train_cfg=dict(type="IterBasedTrainLoop", max_iters=0)),
        "train_cfg.max_iters is 0: nothing is trained",
    ),
    "means for pixels up to 1": (
        dict(model=dict(data_preprocessor=dict(mean=[0.485, 0.456, 0.406], bgr_to_rgb=True))),
        "multiply mean and std by 255",
    ),
    "means of R, G, B for B, G, R": (
        dict(model=dict(data_preprocessor=dict(mean=RGB))),
        "in the order R, G, B, but bgr_to_rgb=False gives the model B, G, R",
    ),
    "means of B, G, R for R, G, B": (
        dict(model=dict(data_preprocessor=dict(mean=RGB[::-1], bgr_to_rgb=True))),
        "in the order B, G, R, but bgr_to_rgb=True gives the model R, G, B",
    ),
    "last images dropped": (
        dict(val_dataloader=dict(dataset=dict(type="ADE20KDataset"), drop_last=True)),
        "val_dataloader.drop_last=True leaves the last images out",
    ),
    "images without objects left out": (
        coco(ann_file="annotations/instances_val2017.json", test_mode=False, filter_cfg=dict(a=1)),
        "set test_mode=True",
    ),
    "the evaluator's file is another": (
        coco(ann_file="annotations/instances_train2017.json"),
        f"val_evaluator reads {FILE}, but the images are those of data/coco/annotations/inst",
    ),
    "load_form": (dict(load_form="x.pth"), "load_form in the config is read by nothing: is load_f"),
    "param_schedulers": (dict(param_schedulers=[]), "is param_scheduler meant?"),
    "custom_hook": (dict(custom_hook=[]), "is custom_hooks meant?"),
}


@pytest.mark.parametrize("name", GOOD)
def test_settings_that_fit(name):
    assert doubtful_settings(config(**GOOD[name])) == []


@pytest.mark.parametrize("name", DOUBTFUL)
def test_settings_that_do_not_fit_are_told(name):
    settings, expected = DOUBTFUL[name]
    (sentence,) = doubtful_settings(config(**settings))
    assert expected in sentence


def test_table_of_settings_without_effect(check_table):
    rows = [
        (name, doubtful_settings(config(**settings))[0]) for name, (settings, _) in DOUBTFUL.items()
    ]
    check_table("settings", [("setting", "warning"), *rows])


@pytest.mark.parametrize(
    "name", [config_param(path.stem) for path in sorted((ROOT / "configs").glob("*.py"))]
)
def test_our_configs_have_no_doubtful_setting(name):
    assert doubtful_settings(read_config(name)) == []
