"""Give broken files to all readers: python -m tests.torture.fuzz KIND COUNT FOLDER

Each file must be read, or refused by one sentence. Prints the number of refused files, the seconds
of the slowest file, and the growth of peak memory in MiB. At the first defect it prints the number
of the file, stops, and keeps the file.
"""

import copy
import io
import json
import random
import re
import resource
import sys
import time
import warnings
from argparse import Namespace
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.registry import METRICS
from PIL import Image
from safetensors.torch import save

from gfnet_dense import api
from gfnet_dense.checkpoint.convert import convert
from gfnet_dense.checkpoint.loading import load_pretrained
from gfnet_dense.checkpoint.publish import publish
from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.cli.console import sentence
from gfnet_dense.datasets.coco.loading import checked_coco
from gfnet_dense.datasets.loading_guards import guard_pipeline
from gfnet_dense.demo import shrink
from gfnet_dense.engine.runner.dense_runner import DenseRunner
from gfnet_dense.models import GFNet
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import read_image
from gfnet_dense.utils.third_party import quiet_third_party
from tests.conftest import ROOT, TINY
from tests.published import official_state_dict
from tests.toy import toy_runner

EXTRA_MEMORY = 3 * 2**30  # bytes of address space beyond its size at the start


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with one to four small corruptions, most of them near its start or end."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        places = [rng.randrange(len(data)), rng.randrange(min(512, len(data)))]
        places.append(len(data) - 1 - rng.randrange(min(512, len(data))))
        place = rng.choice(places)
        how = rng.randrange(6)
        if how == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[place : place + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
        elif how == 2:
            del data[place : place + rng.randint(1, 64)]
        elif how == 3:
            data[place:place] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 32)))
        elif how == 4:
            other = rng.randrange(len(data))
            data[place : place + 16] = data[other : other + 16]
        else:
            data = data[: max(place, 1)]
    return bytes(data)


def change(content, strange: list, rng: random.Random) -> None:
    """Replace a random value of nested containers by a strange one, or delete it, in place."""
    node = content
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.85:
            node = node[key]
            continue
        if rng.random() < 0.3:
            del node[key]
        else:
            node[key] = rng.choice(strange)
        return


def mutate_json(text: str, rng: random.Random) -> bytes:
    """Return a JSON text with values replaced or deleted, or with corrupted bytes."""
    if rng.random() < 0.3:
        return mutate(text.encode(), rng)
    content = json.loads(text)
    strange = [None, -1, 1e308, float("nan"), "", "x" * 50, [], {}, [[]], True, 10**20]
    for _ in range(rng.randint(1, 3)):
        change(content, copy.deepcopy(strange), rng)
    return json.dumps(content).encode()


def strange_contents() -> list:
    """Return objects that a checkpoint may hold where other objects are expected."""
    deep = []
    for _ in range(100):
        deep = [deep]
    return [
        None, -1, 10**20, float("nan"), "x", b"x", True, [], {}, {1: 2}, (1, "a"), deep,
        torch.zeros(0), torch.zeros(()), torch.zeros(3, 4), torch.zeros(2, 2, 2, 2),
        torch.tensor([float("nan")]), torch.tensor([float("inf")]),
        torch.zeros(3, dtype=torch.int8), torch.zeros(3, dtype=torch.complex64),
        torch.eye(3).to_sparse(), torch.zeros(1).expand(10**8), torch.zeros(3, device="meta"),
         torch.zeros(3).to(torch.float8_e4m3fn), np.zeros(3),
        np.float64(1), np.array([{}], dtype=object), Counter("aab"), OrderedDict(a=1),
        Namespace(a=[1]), HistoryBuffer([1.0], [1]),
    ]  # fmt: skip


class Checkpoints:
    """Corrupted files of weights, loaded into a backbone."""

    def __init__(self, folder: Path, suffix: str):
        self.path = folder / f"file{suffix}"
        torch.manual_seed(0)
        state_dict = official_state_dict(TINY["dims"], TINY["depths"], 64, num_classes=2)
        if suffix == ".safetensors":
            self.seeds = [save(state_dict, {"key": "model"})]
        else:
            self.seeds = []
            for zipped in (True, False):
                buffer = io.BytesIO()
                torch.save({"model": state_dict}, buffer, _use_new_zipfile_serialization=zipped)
                self.seeds.append(buffer.getvalue())
        self.model = GFNet(TINY, img_size=64)

    def make(self, rng: random.Random) -> bytes:
        return mutate(rng.choice(self.seeds), rng)

    def read(self) -> None:
        load_pretrained(self.model, str(self.path))


class Contents:
    """Valid checkpoint files with strange contents, given to the functions that read them."""

    def __init__(self, folder: Path):
        self.path, self.folder = folder / "file.pth", folder
        cfg = read_config(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py")
        shrink(cfg)
        cfg.model.backbone.arch = TINY
        cfg.model.neck.in_channels = list(TINY["dims"])
        self.cfg = cfg
        with_default_scope("mmseg")
        state_dict = dict(api.load_model(cfg, None).state_dict())
        meta = dict(cfg="a = 1", iter=4, epoch=0, seed=0, time="now", experiment_name="a")
        number = cfg.model.decode_head.num_classes
        palette = [[i, i, i] for i in range(number)]
        meta["dataset_meta"] = dict(classes=[f"class {i}" for i in range(number)], palette=palette)
        self.content = dict(meta=meta, state_dict=state_dict, message_hub={}, optimizer={})
        self.readers = [
            lambda: load_pretrained(GFNet(TINY, img_size=64), str(self.path)),
            lambda: api.load_model(self.cfg, self.path),
            lambda: api.load_backbone(self.path),
            lambda: publish(self.path, folder / "published.pth").unlink(),
            lambda: publish(self.path, folder / "published.safetensors").unlink(),
            lambda: convert(self.path, folder / "converted.pth", "ours", 96, "trigonometric"),
            lambda: convert(self.path, folder / "converted.pth", "official", None, "bilinear"),
        ]

    def make(self, rng: random.Random) -> bytes:
        content = copy.deepcopy(self.content)
        for _ in range(rng.randint(1, 2)):
            # Half of the changes are in the few weights whose shapes determine the arch.
            weights = content.get("state_dict")
            telling = [k for k in self.content["state_dict"] if TELLING.search(k)]
            if isinstance(weights, dict) and rng.random() < 0.5:
                weights[rng.choice(telling)] = rng.choice(strange_contents())
            else:
                change(content, strange_contents(), rng)
        self.reader = rng.choice(self.readers)
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=rng.random() < 0.8)
        return buffer.getvalue()

    def read(self) -> None:
        self.reader()


TELLING = re.compile(r"pos_embed|patch_embed.*weight|complex_weight|norm")


class Resumed:
    """Valid checkpoints of a training with strange contents, to resume from."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / "iter_4.pth"
        self.settings = dict(val=True, save_best="mean", rule="greater")
        toy_runner(folder / "start", max_iters=4, **self.settings).train()
        self.content = read_checkpoint(folder / "start" / "iter_4.pth")

    def make(self, rng: random.Random) -> bytes:
        content = copy.deepcopy(self.content)
        part = rng.choice(["meta", "message_hub", "optimizer", "param_schedulers"])
        change(content[part], strange_contents(), rng)
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    def read(self) -> None:
        work_dir = self.folder / "run"
        with redirect_stdout(io.StringIO()):
            toy_runner(work_dir, max_iters=5, resume=self.path, **self.settings).train()


class Images:
    """Corrupted photos in several formats."""

    def __init__(self, folder: Path):
        self.path = folder / "file"
        photo = Image.fromarray(
            np.random.default_rng(0).integers(0, 256, (24, 31, 3), np.uint8).repeat(2, 0)
        )
        self.seeds = []
        for kind, image in (
            ("PNG", photo), ("JPEG", photo), ("TIFF", photo), ("BMP", photo), ("WEBP", photo),
            ("PNG", photo.convert("P")), ("PNG", photo.convert("L")), ("GIF", photo.convert("P")),
        ):  # fmt: skip
            buffer = io.BytesIO()
            image.save(buffer, kind)
            self.seeds.append(buffer.getvalue())

    def make(self, rng: random.Random) -> bytes:
        return mutate(rng.choice(self.seeds), rng)

    def read(self) -> None:
        read_image(self.path)


class Labels:
    """Corrupted or wrong label maps, read by the dataset of a training."""

    def __init__(self, folder: Path):
        cfg = read_config(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py")
        shrink(cfg)
        for name in ("images", "labels"):
            (folder / name).mkdir()
        rng = np.random.default_rng(0)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / "images/a.jpg")
        self.path = folder / "labels" / "a.png"
        labels = Image.fromarray(rng.integers(0, 12, (40, 50)).astype(np.uint8))
        labels.save(self.path)
        palette = labels.convert("P")
        self.seeds = []
        for image in (labels, palette):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            self.seeds.append(buffer.getvalue())
        loader = cfg.train_dataloader
        dataset = {**loader.dataset, "data_root": str(folder)}
        dataset["data_prefix"] = dict(img_path="images", seg_map_path="labels")
        sampler = dict(type="InfiniteSampler", shuffle=True)
        with_default_scope("mmseg")
        loader = dict(batch_size=1, num_workers=0, dataset=dataset, sampler=sampler)
        self.dataset = DenseRunner.build_dataloader(loader, seed=0).dataset
        guard_pipeline(self.dataset)

    def make(self, rng: random.Random) -> bytes:
        """Return a corrupted file, or a valid file of a label map that may not fit the image."""
        if rng.random() < 0.6:
            return mutate(rng.choice(self.seeds), rng)
        size = rng.choice([(40, 50), (40, 50), (50, 40), (1, 1)])
        labels = np.random.default_rng(rng.randrange(2**32)).integers(
            0, rng.choice([12, 256]), size
        )
        mode = rng.choice(["L", "L", "P", "RGB", "I;16", "1", "LA", "F"])
        image = Image.fromarray(labels.astype(np.uint8))
        buffer = io.BytesIO()
        image = image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
        image.save(buffer, "TIFF" if mode == "F" else "PNG")
        return buffer.getvalue()

    def read(self) -> None:
        self.dataset[0]


class Annotations:
    """Corrupted COCO JSON files, read by the dataset of a training with all its samples."""

    def __init__(self, folder: Path):
        cfg = read_config(ROOT / "configs" / "mask-rcnn_gfnet-h-ti_coco.py")
        shrink(cfg)
        with_default_scope("mmdet")
        self.path = folder / "instances.json"
        (folder / "images").mkdir()
        rng = np.random.default_rng(0)
        images, annotations = [], []
        for i in range(2):
            photo = Image.fromarray(rng.integers(0, 256, (60, 70, 3), np.uint8))
            photo.save(folder / "images" / f"{i}.jpg")
            images.append(dict(id=i, file_name=f"{i}.jpg", width=70, height=60))
            for j in range(3):
                x, y, w, h = 5 + 4 * j, 6 + j, 30, 20
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                code = dict(size=[60, 70], counts=[x * 60 + y, 20, 60 * 70 - x * 60 - y - 20])
                annotations.append(
                    dict(
                        id=len(annotations), image_id=i, category_id=j % 2 + 1, area=w * h,
                        bbox=[x, y, w, h], iscrowd=int(j == 2),
                        segmentation=code if j == 2 else [polygon],
                    )
                )  # fmt: skip
        names = cfg.train_dataloader.dataset.metainfo.classes
        categories = [dict(id=i + 1, name=name) for i, name in enumerate(names)]
        self.seed = json.dumps(dict(images=images, annotations=annotations, categories=categories))
        dataset = {**cfg.train_dataloader.dataset, "data_root": str(folder)}
        dataset |= dict(data_prefix=dict(img="images"), ann_file=self.path.name)
        sampler = dict(type="InfiniteSampler", shuffle=True)
        self.loader = dict(batch_size=1, num_workers=0, dataset=dataset, sampler=sampler)
        self.evaluator = dict(cfg.val_evaluator, ann_file=str(self.path))
        self.cfg = ConfigDict(
            default_scope="mmdet", val_dataloader=self.loader, val_evaluator=self.evaluator
        )

    def make(self, rng: random.Random) -> bytes:
        return mutate_json(self.seed, rng)

    def read(self) -> None:
        with checked_coco(self.cfg, "val"):
            dataset = DenseRunner.build_dataloader(self.loader, seed=0).dataset
            METRICS.build(self.evaluator)
        guard_pipeline(dataset)
        for i in range(len(dataset)):
            dataset[i]


def with_default_scope(name: str) -> None:
    from mmengine.registry import init_default_scope

    init_default_scope(name)


KINDS: dict[str, Callable] = {
    "pth": lambda folder: Checkpoints(folder, ".pth"),
    "safetensors": lambda folder: Checkpoints(folder, ".safetensors"),
    "contents": Contents,
    "resumed": Resumed,
    "images": Images,
    "labels": Labels,
    "coco": Annotations,
}


def main(kind: str, count: int, folder: Path) -> None:
    quiet_third_party()
    warnings.simplefilter("ignore")
    subject = KINDS[kind](folder)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_MEMORY,) * 2)
    refused, slowest = 0, 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        rng = random.Random(number)
        subject.path.write_bytes(subject.make(rng))
        start = time.perf_counter()
        try:
            subject.read()
        except InputError as e:
            refused += 1
            text = sentence(e)
            assert text and "Traceback" not in text, number
        except BaseException:
            print(f"number {number}: {subject.path}", file=sys.stderr, flush=True)
            raise
        slowest = max(slowest, time.perf_counter() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    print(json.dumps(dict(files=count, refused=refused, slowest=slowest, grown=grown)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
