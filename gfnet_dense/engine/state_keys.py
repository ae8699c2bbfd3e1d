"""Names under which the state of a training is kept, in its work dir and in the message hub."""

LAST_CHECKPOINT = "last_checkpoint"  # mmengine's file with the path of the newest checkpoint
NONE_YET = "none"  # content of that file while the training has written no checkpoint

# Keys of the message hub, which checkpoints hold. mmengine prints keys that begin with "train",
# "val" or "test" among the metrics.
VALIDATED = "at_validation"  # progress of the training at its last validation: epochs or iterations
NOT_FINITE = "not_finite"  # number of optimizer steps skipped in a row, set by FiniteLossHook
SETTINGS = "training"  # key in the meta of a checkpoint: see engine/settings.py
AVERAGES = "ema_state_dict"  # key of a checkpoint, of mmengine's EMAHook
REQUESTED = "requested_ckpt"  # key in the message hub: name of a checkpoint out of turn
