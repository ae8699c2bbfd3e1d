"""A backbone whose weights are sharded over processes: torchrun -m tests.torture.sharded OUT"""

import os
import sys

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from gfnet_dense.models import GFNet
from gfnet_dense.models.layers.block import Block
from tests.conftest import TINY


def gradients(model, x):
    sum(y.pow(3).mean() for y in model(x)).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def main(out: str) -> None:
    distributed.init_process_group("gloo")
    rank, count = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(0)  # the same weights in all processes
    model, whole = (GFNet(TINY, img_size=64).double() for _ in range(2))
    whole.load_state_dict(model.state_dict())
    mesh = init_device_mesh("cpu", (count,))
    for module in [m for m in model.modules() if isinstance(m, Block)] + [model]:
        fully_shard(module, mesh=mesh)
    stored = sum(p.to_local().numel() for p in model.parameters())
    images = torch.randn(count, 3, 96, 80, dtype=torch.float64)
    sharded = gradients(model, images[rank : rank + 1])
    sharded = {name: gradient.full_tensor() for name, gradient in sharded.items()}
    expected = gradients(whole, images)
    if rank == 0:
        share = stored / sum(p.numel() for p in whole.parameters())
        torch.save({"whole": expected, "sharded": sharded, "share": share}, out)
    distributed.barrier()
    os._exit(0)  # gloo's threads sometimes abort at exit


if __name__ == "__main__":
    main(sys.argv[1])
