"""A segmentor of two classes whose predictions are seen in the image."""

import torch

from tests.apis.test_inference import KnownSegmentor


class RedSegmentor(KnownSegmentor):
    """Tells pixels of little red from pixels of much red."""

    dataset_meta = dict(classes=["little", "much"], palette=[(0, 0, 0), (255, 0, 0)])

    def inference(self, inputs, metas):
        red = inputs[:, 2:].float() / 255  # BGR
        return torch.cat([1 - red, red], dim=1)
