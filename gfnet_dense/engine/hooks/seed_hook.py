"""Seeding the random numbers of the model for each iteration."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from gfnet_dense.datasets.seeded import seed_generators


class SeedHook(Hook):
    """Seeds what the model draws (drop path, dropout, sampled boxes) for each iteration."""

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        seed_generators(runner.seed, runner.rank, runner.iter)
