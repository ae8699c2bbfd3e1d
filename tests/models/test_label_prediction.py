"""Labels of segmentors, compared with those of mmsegmentation's ``predict``."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModel

from gfnet_dense.models.label_prediction import predict_labels
from gfnet_dense.models.utils import label_maps
from gfnet_dense.utils.scope import default_scope
from tests.conftest import TINY, needs_operators

pytest.importorskip("mmseg")
from mmseg.models.decode_heads import FCNHead  # noqa: E402
from mmseg.models.segmentors import EncoderDecoder  # noqa: E402
from mmseg.registry import MODELS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

SLIDE = dict(mode="slide", crop_size=(64, 96), stride=(40, 64))


def head(**settings):
    return dict(
        type="FCNHead", in_channels=8, in_index=0, channels=8, num_convs=1, num_classes=7,
        norm_cfg=dict(type="BN"),
    ) | settings  # fmt: skip


def segmentor(decode_head=None, test_cfg=None, preprocessing=None, **settings):
    torch.manual_seed(0)
    cfg = dict(
        type="EncoderDecoder",
        data_preprocessor=dict(type="SegDataPreProcessor", mean=[99.0] * 3, std=[50.0] * 3)
        | (preprocessing or {}),
        backbone=dict(type="gfnet_dense.GFNet", arch=TINY, img_size=64),
        decode_head=decode_head or head(),
        test_cfg=test_cfg or dict(mode="whole"),
    )
    cfg = ConfigDict(cfg | settings)
    with default_scope("mmseg"):
        model = cfg.pop("type")(**cfg) if isinstance(cfg.type, type) else MODELS.build(cfg)
    with torch.no_grad():  # untrained heads predict the same class everywhere
        for name, parameter in model.named_parameters():
            if "conv_seg" in name:
                parameter.normal_()
    return model.eval()


def batch(model, size, ori_shapes, **meta):
    """Return inputs and samples as the runner's loop gives them to ``predict``."""
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randint(0, 256, (3, *size), generator=generator) for _ in ori_shapes]
    samples = [
        SegDataSample(metainfo=dict(img_shape=size, ori_shape=shape, **meta))
        for shape in ori_shapes
    ]
    data = model.data_preprocessor({"inputs": inputs, "data_samples": samples}, False)
    return data["inputs"], data["data_samples"]


def check_equal_labels(model, *args, **meta):
    inputs, samples = batch(model, *args, **meta)
    with torch.no_grad():
        expected = model.predict(inputs, copy.deepcopy(samples))
        found = predict_labels(model, inputs, samples)
    for a, b in zip(found, expected, strict=True):
        assert len(b.pred_sem_seg.data.unique()) > 1
        assert a.pred_sem_seg.data.shape == b.pred_sem_seg.data.shape
        assert torch.equal(a.pred_sem_seg.data, b.pred_sem_seg.data.long())
        assert "seg_logits" not in a and a.metainfo.keys() == b.metainfo.keys()


@pytest.fixture(params=["bands", "one band"])
def bands(request, monkeypatch):
    """Make maps, also small ones, in bands of a few rows where these are exact."""
    if request.param == "bands":
        monkeypatch.setattr(label_maps, "BAND_BYTES", 4 * 7 * 160 * 5)


SIZES = [
    ((64, 160), (64, 160)),  # no second resizing, a power of two in the first
    ((75, 133), (75, 133)),  # odd, smaller than a stride at the edges
    ((96, 144), (61, 250)),
    ((64, 160), (128, 320)),
    ((160, 64), (500, 200)),
]


@pytest.mark.parametrize("size, ori_shape", SIZES)
@pytest.mark.parametrize("test_cfg", [dict(mode="whole"), SLIDE])
@pytest.mark.parametrize("align_corners", [False, True])
def test_labels_equal_those_of_predict(bands, size, ori_shape, test_cfg, align_corners):
    model = segmentor(head(align_corners=align_corners), test_cfg)
    check_equal_labels(model, size, [ori_shape])


@pytest.mark.parametrize("test_cfg", [dict(mode="whole"), SLIDE])
def test_images_of_a_batch_have_their_own_sizes(bands, test_cfg):
    model = segmentor(test_cfg=test_cfg)
    check_equal_labels(model, (96, 144), [(61, 250), (96, 144), (200, 300)])


@pytest.mark.parametrize("padding", [dict(size_divisor=32), dict(size=(128, 200))])
@pytest.mark.parametrize("test_cfg", [dict(mode="whole"), SLIDE])
def test_padding_of_the_preprocessor_is_taken_off(bands, padding, test_cfg):
    model = segmentor(test_cfg=test_cfg, preprocessing=dict(test_cfg=padding))
    check_equal_labels(model, (75, 133), [(75, 133), (150, 266)])


def test_padding_on_all_sides_is_taken_off(bands):
    check_equal_labels(segmentor(), (96, 160), [(75, 133)], padding_size=[7, 20, 9, 12])


@pytest.mark.parametrize("test_cfg", [dict(mode="whole"), SLIDE])
@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_flips_are_undone(bands, direction, test_cfg):
    model = segmentor(test_cfg=test_cfg)
    check_equal_labels(model, (96, 160), [(96, 160)], flip=True, flip_direction=direction)
    check_equal_labels(model, (96, 160), [(96, 160)], flip=False, flip_direction=direction)


@pytest.mark.parametrize("test_cfg", [dict(mode="whole"), SLIDE])
@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_a_single_class_has_a_threshold(bands, threshold, test_cfg):
    settings = dict(num_classes=2, out_channels=1, threshold=threshold)
    loss = dict(type="CrossEntropyLoss", use_sigmoid=True)
    check_equal_labels(
        segmentor(head(loss_decode=loss, **settings), test_cfg), (75, 160), [(75, 160)]
    )


@pytest.mark.parametrize("test_cfg", [dict(mode="whole"), SLIDE])
def test_labels_under_autocast_equal_those_of_predict(bands, test_cfg):
    with torch.autocast("cpu", torch.bfloat16):
        check_equal_labels(segmentor(test_cfg=test_cfg), (64, 160), [(64, 160)])


class OwnHead(FCNHead):
    def predict_by_feat(self, seg_logits, batch_img_metas):
        return super().predict_by_feat(seg_logits, batch_img_metas).flip(1)


class OwnSegmentor(EncoderDecoder):
    def encode_decode(self, inputs, batch_img_metas):
        return super().encode_decode(inputs, batch_img_metas).roll(1, 1)


class OwnWindows(EncoderDecoder):
    def slide_inference(self, inputs, batch_img_metas):
        return super().slide_inference(inputs, batch_img_metas).roll(2, 1)


class OwnInference(EncoderDecoder):
    def inference(self, inputs, batch_img_metas):
        return super().inference(inputs, batch_img_metas).roll(3, 1)


@pytest.mark.parametrize("test_cfg", [dict(mode="whole"), SLIDE])
@pytest.mark.parametrize("own", [OwnHead, OwnSegmentor, OwnWindows, OwnInference])
def test_methods_of_ones_own_are_used(own, test_cfg):
    is_head = issubclass(own, FCNHead)
    settings = dict(decode_head=head(type=own)) if is_head else dict(type=own)
    check_equal_labels(segmentor(test_cfg=test_cfg, **settings), (75, 133), [(60, 100)])


@needs_operators  # of point_sample
@pytest.mark.parametrize("test_cfg", [dict(mode="whole"), SLIDE])
def test_heads_with_a_predict_of_their_own_and_cascades_are_used(test_cfg):
    point = dict(
        type="PointHead", in_channels=[8], in_index=[0], channels=8, num_classes=7, num_fcs=1
    )  # fmt: skip
    points = dict(subdivision_steps=2, subdivision_num_points=64, scale_factor=2)
    model = segmentor(
        [head(), point], ConfigDict(test_cfg, **points), type="CascadeEncoderDecoder", num_stages=2
    )
    check_equal_labels(model, (64, 96), [(60, 100)])


def test_models_of_other_classes_need_their_inference_alone():
    class Model(BaseModel):
        align_corners = False
        decode_head = None

        def inference(self, inputs, metas):
            return inputs[:, :2]

        def forward(self, inputs):
            raise NotImplementedError

    sample = SegDataSample(metainfo=dict(ori_shape=(4, 6)))
    (result,) = predict_labels(Model(), torch.randn(1, 3, 4, 6), [sample])
    assert result is sample and sample.pred_sem_seg.data.shape == (1, 4, 6)
