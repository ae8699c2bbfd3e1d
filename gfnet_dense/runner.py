"""mmengine's runner with a console that a person can read; the log file keeps everything."""

import logging
import re

from mmengine.logging import MMLogger
from mmengine.runner import Runner

from .errors import InputError

# Environment and config dumps, a line for every parameter, and advice to authors of libraries.
NOISE = re.compile(
    r"paramwise_options -- |Hooks will be executed in the following order|\s*-{20,}\s*System env"
    r"|\s*Config:\s|\"FileClient\" will be deprecated|\"HardDiskBackend\" is the alias"
    r"|The prefix is not set in metric class|per class results:$|Exp name: "
)


class ConsoleRunner(Runner):
    """Runner whose console leaves out what is of use in the log file only."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(lambda record: not NOISE.match(record.getMessage()))
        return logger

    def load_checkpoint(self, filename, map_location="cpu", strict=False, **kwargs) -> dict:
        """Load a checkpoint; to test or to resume, all of it must fit all of the model.

        mmengine would warn and go on with random weights where names or shapes differ, which only
        fine-tuning (``load_from``) wants.
        """
        strict = strict or self._train_loop is None or self._resume
        try:
            return super().load_checkpoint(filename, map_location, strict=strict, **kwargs)
        except RuntimeError as e:
            problems = [line for line in str(e).splitlines()[1:] if line.strip()]
            if not strict or not problems:
                raise
            raise InputError(
                f"{filename} does not fit the model of the config ({problems[0].strip(' .')[:200]}"
                f"): take the config that it was trained with"
            ) from None
