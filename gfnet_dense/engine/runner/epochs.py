"""Going on within an epoch, at the batch after the last one that was trained."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.runner import EpochBasedTrainLoop


def place_in_epochs(epoch: int, iteration: int, length: int) -> tuple[int, int]:
    """Return the epoch and iteration at which a loop of epochs goes on.

    Args:
        epoch: Number of complete epochs in the checkpoint; 0 if its loop counted iterations alone.
        iteration: Number of iterations in the checkpoint.
        length: Number of iterations in an epoch now.

    Returns:
        The place in the checkpoint if there is such a place now. Where an epoch has become longer
        or shorter, the beginning of the epoch.
    """
    if epoch * length <= iteration <= (epoch + 1) * length:
        return epoch, iteration
    return (iteration // length, iteration) if epoch == 0 else (epoch, epoch * length)


def skip_batches(loop: EpochBasedTrainLoop) -> None:
    """Let the first epoch of a resumed loop begin behind the batches that it has trained.

    The batches are drawn, so that the random numbers are those of the whole epoch, and not loaded.
    """
    count = loop.iter - loop.epoch * len(loop.dataloader)
    if count <= 0:
        return
    # A DataLoader allows no other batch sampler once it is built, since workers have the former
    # one. This one is not in use yet. Its attribute is read when an epoch begins (PyTorch 2.13).
    vars(loop.dataloader)["batch_sampler"] = _Behind(loop.dataloader.batch_sampler, count)
    run_iter, first = loop.run_iter, loop.epoch

    def run(index: int, *args: Any) -> None:
        run_iter(index + count if loop.epoch == first else index, *args)

    loop.run_iter = run


class _Behind:
    """A batch sampler without its first batches, the first time that it is iterated over."""

    def __init__(self, batch_sampler: Any, count: int) -> None:
        self.batch_sampler, self.count = batch_sampler, count

    def __iter__(self) -> Iterator[list[int]]:
        # Runs when the first batch is drawn: DataLoader with workers asks for two iterators.
        count, self.count = self.count, 0
        yield from islice(iter(self.batch_sampler), count, None)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __getattr__(self, name: str) -> Any:
        # copy and pickle ask for these before attributes are set: that would recurse endlessly.
        if name.startswith("__") or name == "batch_sampler":
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)
