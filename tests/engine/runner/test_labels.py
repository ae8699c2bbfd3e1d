"""Metrics of labels without logits, compared with mmengine's Runner; who keeps the logits."""

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS
from mmengine.runner import Runner

from gfnet_dense import api
from gfnet_dense.demo import shrink
from gfnet_dense.engine.runner.dense_runner import DenseRunner
from gfnet_dense.models import label_prediction
from gfnet_dense.utils.config import read_config
from tests.conftest import ROOT

pytest.importorskip("mmseg")
from mmseg.evaluation import IoUMetric  # noqa: E402

MODES = {
    "whole": dict(mode="whole"),
    "slide": dict(mode="slide", crop_size=(64, 96), stride=(48, 80)),
}


@METRICS.register_module()
class ReadsLogits(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [float(sample["seg_logits"]["data"].max()) for sample in data_samples]

    def compute_metrics(self, results):
        return {"largest": max(results)}


@HOOKS.register_module()
class HookThatReadsLogits(Hook):
    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert all(sample.seg_logits.data.isfinite().all() for sample in outputs)


@pytest.fixture
def config(tmp_path, demo_data, monkeypatch):
    """Return the settings of a test of 2 images with an untrained, shrunken Semantic FPN."""
    (tmp_path / "data").symlink_to(demo_data)
    monkeypatch.chdir(tmp_path)
    cfg = read_config(str(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py"))
    shrink(cfg)
    torch.manual_seed(0)
    model = api.load_model(cfg, None)
    with torch.no_grad():  # an untrained head predicts the same class everywhere
        for name, parameter in model.named_parameters():
            if "conv_seg" in name:
                parameter.normal_()
    torch.save({"state_dict": model.state_dict(), "meta": {}}, "weights.pth")
    cfg.load_from, cfg.work_dir, cfg.experiment_name = "weights.pth", "work", tmp_path.name
    cfg.visualizer = dict(type="SegLocalVisualizer", vis_backends=[], name=tmp_path.name)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.indices = cfg.val_dataloader.dataset.indices = 2
    return cfg


@pytest.fixture
def seen(monkeypatch):
    """Return the names of the data of the samples that IoUMetric has seen."""
    names, process = set(), IoUMetric.process

    def watched(self, data_batch, data_samples):
        names.update(*data_samples)
        process(self, data_batch, data_samples)

    monkeypatch.setattr(IoUMetric, "process", watched)
    return names


def evaluate(cfg, cls=DenseRunner):
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg[key] = None
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    runner = cls.from_cfg(cfg)
    return runner, runner.test()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [None, (91, 67)])
def test_metrics_equal_those_of_mmengines_runner(config, seen, mode, scale):
    config.model.test_cfg = MODES[mode]
    if scale:  # odd sizes, which are not resized to multiples of 32
        resize = dict(type="Resize", scale=scale, keep_ratio=True)
        load, *_, annotations, pack = config.test_dataloader.dataset.pipeline
        config.test_dataloader.dataset.pipeline = [load, resize, annotations, pack]
    runner, found = evaluate(config.copy())
    assert "pred_sem_seg" in seen and "seg_logits" not in seen
    config.experiment_name += "-stock"
    _, expected = evaluate(config, Runner)
    assert "seg_logits" in seen
    assert found.keys() == expected.keys() and found["mIoU"] > 0
    np.testing.assert_array_equal(list(found.values()), list(expected.values()))
    assert "predict" not in vars(runner.model)


def test_a_validation_in_training_makes_no_logits_either(config, seen):
    config.train_cfg.update(max_iters=1, val_interval=1)
    config.train_dataloader.update(batch_size=2)
    config.custom_hooks = []
    runner = DenseRunner.from_cfg(config)
    runner.train()
    assert "pred_sem_seg" in seen and "seg_logits" not in seen
    assert "predict" not in vars(runner.model)


@pytest.mark.parametrize("reader", ["metric", "dump", "hook", "own predict"])
def test_logits_stay_for_those_who_may_read_them(config, seen, reader, monkeypatch, tmp_path):
    if reader == "metric":
        config.test_evaluator = [config.test_evaluator, dict(type=ReadsLogits)]
    elif reader == "dump":
        dump = dict(type="DumpResults", out_file_path=str(tmp_path / "out.pkl"))
        config.test_evaluator = [config.test_evaluator, dump]
    elif reader == "hook":
        config.custom_hooks = [*config.get("custom_hooks", []), dict(type=HookThatReadsLogits)]
    else:
        from mmseg.models.segmentors import EncoderDecoder

        stock = EncoderDecoder.predict
        monkeypatch.setattr(EncoderDecoder, "predict", lambda self, *args: stock(self, *args))
    _, metrics = evaluate(config)
    assert "seg_logits" in seen and metrics["mIoU"] > 0
    assert "largest" in metrics or reader != "metric"


def test_augmented_tests_average_logits(config, seen):
    config.test_dataloader.dataset.update(pipeline=config.tta_pipeline, indices=1)
    config.model = dict(config.tta_model, module=config.model)
    _, metrics = evaluate(config)
    assert metrics["mIoU"] > 0 and "seg_logits" in seen


def test_after_an_error_the_model_predicts_logits_again(config, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(label_prediction, "label_map", fail)
    cfg = config.copy()
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg[key] = None
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    runner = DenseRunner.from_cfg(cfg)
    with pytest.raises(KeyboardInterrupt):
        runner.test()
    with torch.no_grad():
        (sample,) = runner.model.test_step(next(iter(runner.test_dataloader)))
    assert "seg_logits" in sample
