"""A user's project for test_own_code.py: all that a config can name, as small as possible.

The tests copy this file to a folder of its own. The place that the environment variable FAULT names
makes the mistake MISTAKE.
"""

import os

import torch
from mmengine.dataset import BaseDataset, DefaultSampler
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseDataPreprocessor, BaseModel, BaseModule
from mmengine.optim import DefaultOptimWrapperConstructor, LinearLR, OptimWrapper
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    FUNCTIONS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    VISBACKENDS,
    VISUALIZERS,
)
from mmengine.runner import IterBasedTrainLoop, ValLoop
from mmengine.visualization import LocalVisBackend, Visualizer

from gfnet_dense.utils.errors import InputError


def refuse():
    raise InputError("the sentence of an InputError")


MISTAKES = {
    "AssertionError": lambda: torch.testing.assert_close(1, 2),  # raised by a library
    "AttributeError": lambda: os.nothing,
    "FileNotFoundError": lambda: open("/nothing"),
    "IndexError": lambda: [][0],
    "InputError": refuse,
    "KeyError": lambda: {}["nothing"],
    "ModuleNotFoundError": lambda: __import__("nothing"),
    "NotImplementedError": lambda: torch.nn.Module()(1),
    "RuntimeError": lambda: torch.ones(2) + torch.ones(3),
    "TypeError": lambda: len(3),
    "UnicodeDecodeError": lambda: b"\xff".decode(),  # has more arguments than a message
    "ValueError": lambda: int("nothing"),
    "ZeroDivisionError": lambda: 1 / 0,
}


def fault(place):
    if place == os.environ.get("FAULT"):
        MISTAKES[os.environ["MISTAKE"]]()


fault("module")


@HOOKS.register_module()
class OwnHook(Hook):
    def __init__(self):
        fault("OwnHook.__init__")

    def before_run(self, runner):
        fault("OwnHook.before_run")

    def before_train(self, runner):
        fault("OwnHook.before_train")

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        fault("OwnHook.after_train_iter")

    def before_save_checkpoint(self, runner, checkpoint):
        fault("OwnHook.before_save_checkpoint")

    def after_load_checkpoint(self, runner, checkpoint):
        fault("OwnHook.after_load_checkpoint")


@TRANSFORMS.register_module()
class OwnTransform:
    def __init__(self):
        fault("OwnTransform.__init__")

    def __call__(self, results):
        fault("OwnTransform.__call__")
        return {"inputs": results["vector"]}


@DATASETS.register_module()
class OwnDataset(BaseDataset):
    def __init__(self, **kwargs):
        fault("OwnDataset.__init__")
        super().__init__(**kwargs)

    def load_data_list(self):
        fault("OwnDataset.load_data_list")
        return [{"vector": torch.full((4,), i / 8)} for i in range(8)]

    def __getitem__(self, index):
        fault("OwnDataset.__getitem__")
        return super().__getitem__(index)


@DATA_SAMPLERS.register_module()
class OwnSampler(DefaultSampler):
    def __iter__(self):
        fault("OwnSampler.__iter__")
        return super().__iter__()


@FUNCTIONS.register_module()
def own_collate(samples):
    fault("own_collate")
    return {"inputs": torch.stack([sample["inputs"] for sample in samples])}


@MODELS.register_module()
class OwnPreprocessor(BaseDataPreprocessor):
    def forward(self, data, training=False):
        fault("OwnPreprocessor.forward")
        return super().forward(data, training)


@MODELS.register_module()
class OwnBackbone(BaseModule):
    def __init__(self, width, init_cfg=None):
        fault("OwnBackbone.__init__")
        super().__init__(init_cfg)
        self.layer = torch.nn.Linear(4, width)

    def init_weights(self):
        fault("OwnBackbone.init_weights")
        super().init_weights()

    def forward(self, inputs):
        fault("OwnBackbone.forward")
        return self.layer(inputs)


@MODELS.register_module()
class OwnModel(BaseModel):
    def __init__(self, backbone, data_preprocessor=None):
        fault("OwnModel.__init__")
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)

    def forward(self, inputs, mode="tensor"):
        y = self.backbone(inputs)
        if mode == "loss":
            fault("OwnModel.forward")
            return {"loss": y.square().mean()}
        return [{"y": float(each)} for each in y.mean(1)]


@OPTIMIZERS.register_module()
class OwnOptimizer(torch.optim.SGD):
    def __init__(self, params, lr):
        fault("OwnOptimizer.__init__")
        super().__init__(params, lr)

    def step(self, closure=None):
        fault("OwnOptimizer.step")
        return super().step(closure)

    def load_state_dict(self, state_dict):
        fault("OwnOptimizer.load_state_dict")
        super().load_state_dict(state_dict)


@OPTIM_WRAPPERS.register_module()
class OwnOptimWrapper(OptimWrapper):
    def update_params(self, loss, **kwargs):
        fault("OwnOptimWrapper.update_params")
        super().update_params(loss, **kwargs)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OwnConstructor(DefaultOptimWrapperConstructor):
    def __call__(self, model):
        fault("OwnConstructor.__call__")
        return super().__call__(model)


@PARAM_SCHEDULERS.register_module()
class OwnLR(LinearLR):
    def __init__(self, optimizer, *args, **kwargs):
        fault("OwnLR.__init__")
        super().__init__(optimizer, *args, **kwargs)

    def _get_value(self):
        fault("OwnLR._get_value")
        return super()._get_value()


@LOOPS.register_module()
class OwnTrainLoop(IterBasedTrainLoop):
    def run(self):
        fault("OwnTrainLoop.run")
        return super().run()


@LOOPS.register_module()
class OwnValLoop(ValLoop):
    def run_iter(self, idx, data_batch):
        fault("OwnValLoop.run_iter")
        return super().run_iter(idx, data_batch)


@METRICS.register_module()
class OwnMetric(BaseMetric):
    default_prefix = "own"

    def __init__(self):
        fault("OwnMetric.__init__")
        super().__init__()

    def process(self, data_batch, data_samples):
        fault("OwnMetric.process")
        self.results += [sample["y"] for sample in data_samples]

    def compute_metrics(self, results):
        fault("OwnMetric.compute_metrics")
        return {"mean": sum(results) / len(results)}


@VISBACKENDS.register_module()
class OwnVisBackend(LocalVisBackend):
    def __init__(self, save_dir):
        fault("OwnVisBackend.__init__")
        super().__init__(save_dir)

    def add_config(self, config, **kwargs):
        fault("OwnVisBackend.add_config")

    def add_scalars(self, scalar_dict, step=0, file_path=None, **kwargs):
        fault("OwnVisBackend.add_scalars")


@VISUALIZERS.register_module()
class OwnVisualizer(Visualizer):
    def __init__(self, name, **kwargs):
        fault("OwnVisualizer.__init__")
        super().__init__(name, **kwargs)
