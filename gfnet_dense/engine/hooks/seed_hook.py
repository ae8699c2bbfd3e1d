"""Random numbers of the model that depend on seed, process and iteration alone."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from gfnet_dense.datasets.seeded import seed_generators


class SeedHook(Hook):
    """Hook that seeds the random numbers of the model before each iteration.

    They decide drop path, dropout and sampled boxes, see :mod:`gfnet_dense.datasets.seeded`.
    """

    priority = "VERY_HIGH"

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None
    ) -> None:
        """Seed the generators of Python, NumPy and PyTorch."""
        seed_generators(runner.seed, runner.rank, runner.iter)
