"""Gradients of a segmentor, in one process or several: [torchrun] -m tests.torture.gradients OUT"""

import os
import sys

import torch
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from gfnet_dense.demo import shrink
from gfnet_dense.engine.runner.dense_runner import DenseRunner
from gfnet_dense.utils.config import read_config
from tests.conftest import ROOT

BATCH = 4  # images of all processes together


def main(out: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # rounding of float32 would hide small mistakes
    is_distributed = "RANK" in os.environ
    cfg = read_config(ROOT / "configs" / "upernet_gfnet_ade20k.py")
    shrink(cfg)
    cfg.model.data_preprocessor.size = (64, 64)
    cfg.model.backbone.drop_path_rate = 0.0
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.dropout_ratio = 0.0
    cfg.update(
        work_dir=os.path.dirname(out) or ".", launcher="pytorch" if is_distributed else "none"
    )
    for key in ("train", "val", "test"):
        cfg.update({f"{key}_dataloader": None, f"{key}_cfg": None, f"{key}_evaluator": None})
    cfg.update(optim_wrapper=None, param_scheduler=None, custom_hooks=[])
    cfg.randomness = dict(seed=0)
    runner = DenseRunner.from_cfg(cfg)  # starts the process group and wraps the model
    runner.model.train()
    for module in runner.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()  # each process has batch statistics of its own

    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (BATCH, 3, 64, 64), generator=generator)
    labels = torch.randint(0, 11, (BATCH, 1, 64, 64), generator=generator)
    share = range(get_rank(), BATCH, get_world_size())
    samples = []
    for i in share:
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
        samples.append(sample.set_data({"gt_sem_seg": PixelData(data=labels[i])}) or sample)
    data = {"inputs": [images[i] for i in share], "data_samples": samples}
    inner = getattr(runner.model, "module", runner.model)
    data = inner.data_preprocessor(data, True)
    losses = runner.model(**data, mode="loss")
    loss, _ = inner.parse_losses(losses)
    loss.backward()
    if is_main_process():
        torch.save({name: p.grad for name, p in inner.named_parameters()}, out)
    if is_distributed:
        torch.distributed.barrier()
        os._exit(0)  # gloo's threads sometimes abort at exit


if __name__ == "__main__":
    main(sys.argv[1])
