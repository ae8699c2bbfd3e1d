"""A loss that is not finite in one of two processes: torchrun -m tests.torture.left_out FOLDER"""

import os
import sys

import torch

from tests.toy import toy_runner


def main(folder: str) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    model = dict(infinite_loss_at=[3] if rank == 1 else [])  # its gradient is finite in both
    runner = toy_runner(folder, model=model, launcher="pytorch")
    runner.train()
    steps = runner.optim_wrapper.optimizer.state_dict()["state"][0]["step"]
    content = {"steps": int(steps), "state_dict": runner.model.module.state_dict()}
    torch.save(content, os.path.join(folder, f"rank_{rank}"))
    torch.distributed.barrier()
    os._exit(0)  # gloo's threads sometimes abort at exit


if __name__ == "__main__":
    main(sys.argv[1])
