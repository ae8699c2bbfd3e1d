"""Broken files through everything that reads files: python -m tests.torture.fuzz KIND COUNT

Each must be read, or refused by one sentence. Prints how many were, how long the slowest one took,
and the peak of memory; ends at the first defect, with its number, and keeps the file.
"""

import io
import json
import random
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from gfnet_dense import cli
from gfnet_dense.checkpoints import load_pretrained
from gfnet_dense.data_check import guard_pipeline
from gfnet_dense.demo import shrink
from gfnet_dense.errors import InputError
from gfnet_dense.models import GFNet
from gfnet_dense.pictures import read_image
from gfnet_dense.runner import DenseRunner
from tests.conftest import ROOT, TINY
from tests.published import official_state_dict

EXTRA_MEMORY = 3 * 2**30  # bytes of address space beyond what the start took


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with one to four small injuries, most of them where formats keep their heads."""
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


def mutate_json(text: str, rng: random.Random) -> bytes:
    """Return a JSON text some of whose values are others, or gone; or one with injured bytes."""
    if rng.random() < 0.3:
        return mutate(text.encode(), rng)
    content = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        node = content
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.85:
                node = node[key]
                continue
            strange = [None, -1, 1e308, float("nan"), "", "x" * 50, [], {}, [[]], True, 10**20]
            if rng.random() < 0.3:
                del node[key]
            else:
                node[key] = rng.choice(strange)
            break
    return json.dumps(content).encode()


class Checkpoints:
    """Files of weights, into a backbone."""

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


class Images:
    """Photos of all formats."""

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
    """Label maps, through the dataset that a training reads."""

    def __init__(self, folder: Path):
        cfg = cli.read_config(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py")
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
        """An injured file, or a whole one of a label map that does not belong to the image."""
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
    """COCO's JSON, through the dataset that a training reads, and its samples."""

    def __init__(self, folder: Path):
        cfg = cli.read_config(ROOT / "configs" / "mask-rcnn_gfnet-h-ti_coco.py")
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

    def make(self, rng: random.Random) -> bytes:
        return mutate_json(self.seed, rng)

    def read(self) -> None:
        dataset = DenseRunner.build_dataloader(self.loader, seed=0).dataset
        guard_pipeline(dataset)
        for i in range(len(dataset)):
            dataset[i]


def with_default_scope(name: str) -> None:
    from mmengine.registry import init_default_scope

    init_default_scope(name)


KINDS: dict[str, Callable] = {
    "pth": lambda folder: Checkpoints(folder, ".pth"),
    "safetensors": lambda folder: Checkpoints(folder, ".safetensors"),
    "images": Images,
    "labels": Labels,
    "coco": Annotations,
}


def main(kind: str, count: int, folder: Path) -> None:
    cli.quiet_third_party()
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
            text = cli.sentence(e)
            assert text and "Traceback" not in text, number
        except BaseException:
            print(f"number {number}: {subject.path}", file=sys.stderr, flush=True)
            raise
        slowest = max(slowest, time.perf_counter() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    print(json.dumps(dict(files=count, refused=refused, slowest=slowest, grown=grown)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
