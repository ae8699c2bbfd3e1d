"""Predict an image with the inferencers of mmsegmentation or mmdetection, as their users do:

python .dev/stock_inference.py CONFIG CHECKPOINT IMAGE
"""

import sys
from typing import Any

from mmengine.config import Config


def predict(config: str, checkpoint: str, image: str) -> None:
    """Predict with the inferencer, and with ``init_model`` or ``init_detector``.

    No module of this project is imported here: the libraries find it by the config.
    """
    if Config.fromfile(config).default_scope == "mmdet":
        from mmdet.apis import DetInferencer, inference_detector, init_detector

        inferencer: Any = DetInferencer(config, checkpoint, device="cpu")
        inferencer(image, no_save_pred=True)
        model = init_detector(config, checkpoint, device="cpu")
        assert len(inference_detector(model, image).pred_instances) >= 0
    else:
        from mmseg.apis import MMSegInferencer, inference_model, init_model

        inferencer = MMSegInferencer(config, checkpoint, device="cpu")
        labels = inferencer(image, return_datasamples=True).pred_sem_seg.data
        model = init_model(config, checkpoint, device="cpu")
        assert inference_model(model, image).pred_sem_seg.shape == labels.shape[-2:]


if __name__ == "__main__":
    predict(*sys.argv[1:])
