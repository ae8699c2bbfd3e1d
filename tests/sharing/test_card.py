"""Model cards: what they say, and their front matter as the hub's own client reads it."""

import re

import pytest
import yaml

from gfnet_dense import save_pretrained
from gfnet_dense.benchmark.complexity import count_flops
from gfnet_dense.sharing.card import Facts, Speed, text
from tests.sharing.small_models import small_model

pytest.importorskip("mmseg")
SPEED = Speed((480, 640), (512, 683), 1.25, "a processor, 2 threads", 44_500_000_000)
FACTS = Facts(
    name="somebody/fields",
    kind="image-segmentation",
    method="EncoderDecoder with GFNet h-tiny, UPerHead",
    params=18_820_000,
    dataset="BaseSegDataset",
    hub_dataset=None,
    classes=("field: a\nfield", "ストリート"),
    metrics={"mIoU": 49.2},
    speed=SPEED,
    config="upernet_gfnet_ade20k",
    license="apache-2.0",
    notes=("paths are cut",),
    has_picture=True,
    versions={"gfnet-dense": "0.1.0"},
)


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_hubs_client_reads_the_front_matter():
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(text(FACTS)).data
    assert (data.license, data.library_name) == ("apache-2.0", "gfnet-dense")
    assert data.pipeline_tag == "image-segmentation"
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("mIoU", 49.2)
    assert (result.dataset_type, result.task_type) == ("other", "image-segmentation")
    assert data.model_name == "fields"


def test_a_card_says_the_facts_and_no_more():
    card = text(FACTS)
    for words in [
        "# fields\n", "18.82 M parameters", "480 x 640 pixels", "tested at 512 x 683",
        "1.25 s (median of 3 predictions on a processor, 2 threads)", "44.5 G multiply-adds",
        "own data, read as BaseSegDataset, 2 classes: field: a field, ストリート",
        "| mIoU   | 49.20 |", "License: apache-2.0", "In `config.json`, paths are cut",
        "![Prediction](prediction.jpg)", "hf download somebody/fields model.safetensors",
        "gfnet-dense infer upernet_gfnet_ade20k model.safetensors photo.jpg",
        "pip install 'gfnet-dense[seg,hub]'", 'from_pretrained("somebody/fields")',
    ]:  # fmt: skip
        assert words in card
    unknown = dict(
        metrics={}, license=None, config=None, has_picture=False, notes=(), name="fields",
        speed=Speed((480, 640), (512, 683), 1.25, "a processor", None),
    )  # fmt: skip
    bare = text(Facts(**{**vars(FACTS), **unknown}))
    for words in ("multiply-adds", "Results", "infer", "hf download", "![", "In `config.json`"):
        assert words not in bare
    assert "pip install 'gfnet-dense[seg]'" in bare
    assert "License: none was given" in bare and "No accuracy was given" in bare
    assert set(front_matter(bare)) == {"library_name", "pipeline_tag", "tags"}


def test_the_snippet_of_a_card_is_python():
    (snippet,) = re.findall(r"```python\n(.*?)```", text(FACTS), re.DOTALL)
    compile(snippet, "card", "exec")


def test_facts_of_a_model_are_counted_and_measured(tmp_path):
    model = small_model()
    card = (save_pretrained(model, tmp_path / "small") / "README.md").read_text()
    params = sum(p.numel() for p in model.parameters())
    assert f"{params / 1e6:.2f} M parameters" in card
    # 480 x 640 at 64 pixels on the shorter side, padded to a multiple of 32
    (size,) = re.findall(r"is tested at (\d+ x \d+) and takes", card)
    height, width = map(int, size.split(" x "))
    assert (height, width) == (64, 96)
    flops = count_flops(model, (height, width)).total
    assert f"{flops / 1e9:.1f} G multiply-adds at {size}" in card
    (seconds,) = re.findall(r"takes ([\d.e-]+) s ", card)
    assert float(seconds) > 0
    front = front_matter(card)
    assert front["datasets"] == ["ade20k"] and "license" not in front
    assert "ADE20KDataset, 150 classes: wall, building" in card


def test_a_data_set_is_named_only_if_its_classes_are_the_models(tmp_path):
    model = small_model(classes=["a", "b", "c"])
    model.cfg.test_dataloader.dataset.type = "ADE20KDataset"
    card = (save_pretrained(model, tmp_path / "own", metrics={"mIoU": 5}) / "README.md").read_text()
    front = front_matter(card)
    assert "datasets" not in front
    dataset = front["model-index"][0]["results"][0]["dataset"]
    assert dataset == dict(name="own data, read as ADE20KDataset", type="other")
