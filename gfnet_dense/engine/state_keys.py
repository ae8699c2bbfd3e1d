"""Names under which the state of a training is kept, on disk and in the message hub."""

LAST_CHECKPOINT = "last_checkpoint"  # mmengine's name for the file that names the newest one
NONE_YET = "none"  # in that file, of a training that has written no checkpoint

# In the message hub, which checkpoints hold; what begins with "val" is printed with the metrics:
VALIDATED = "at_validation"  # how far the training was at the last one
NOT_FINITE = "not_finite"  # how many steps in a row were not, until now; of FiniteLossHook
