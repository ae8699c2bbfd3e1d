"""A program that uses the library, and tells which of its own global state each use has changed.

    python -m tests.host_uses FOLDER_OF_THE_DEMO_DATA FOLDER

It prints a JSON object: for each use, the kinds of state that differ afterwards.
"""

import ctypes
import faulthandler
import gc
import json
import locale
import logging
import multiprocessing
import os
import pkgutil
import random
import resource
import signal
import socket
import sys
import threading
import traceback
import urllib.request
import warnings
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path

# The other libraries are imported first: their own changes are not ours.
import cv2
import matplotlib.pyplot as plt
import mmseg.apis  # noqa: F401
import numpy as np
import torch
import torch._dynamo
import torch.distributed
import torch.export
from mmengine import registry
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader, Runner, checkpoint
from mmengine.visualization import Visualizer  # noqa: F401
from PIL import Image, ImageFile

try:
    import mmdet.models  # noqa: F401
except ImportError:  # without mmcv's operators
    mmdet = None
try:
    import onnxruntime
    import torch.onnx._internal.exporter._core  # noqa: F401
except ImportError:
    onnxruntime = None

# Bytes of a block that glibc maps, unless a larger one was freed before. It is little below glibc's
# limit, 32 MiB: the temporaries of a model are smaller or larger.
SIZE = 2**25 - 2**14
IS_MAPPED = 2  # bit of the size before a block (malloc/malloc.c of glibc: IS_MMAPPED)
NETWORKS = {"random numbers of PyTorch"}  # what building a network draws from
FORK_SERVER = "fork server"  # kind of state: the modules that Python's fork server imports
LOGGERS = "loggers"


def is_mapped():
    """Tell whether glibc maps a large block, or takes it from memory that it has kept."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    block = libc.malloc(SIZE)
    bits = ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t)).value
    mapped = bool(bits & IS_MAPPED)
    if not mapped:  # freeing a mapped block would raise the threshold
        libc.free(block)
    return mapped


def snapshot():
    """Return the state of this process that belongs to the program, by kind."""
    loggers = {
        name: (each.level, each.disabled, each.propagate, list(each.handlers), list(each.filters))
        for name, each in logging.root.manager.loggerDict.items()
        if isinstance(each, logging.Logger) and name != "torch.__trace"  # PyTorch's, when it traces
    }
    root = logging.getLogger()
    numpy_state = np.random.get_state()
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return {
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "import paths": (list(sys.path), list(sys.meta_path), list(sys.path_hooks)),
        "hooks of the interpreter": (
            *(sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook),
            *(sys.gettrace(), sys.getprofile(), faulthandler.is_enabled()),
        ),
        "limits of the interpreter": (
            *(sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled()),
            *(gc.get_threshold(), sys.get_int_max_str_digits()),
        ),
        "standard streams": (sys.stdin, sys.stdout, sys.stderr),
        "warning filters": (list(warnings.filters), warnings.showwarning, warnings.formatwarning),
        "logging": (
            *(root.level, list(root.handlers), list(root.filters), logging.root.manager.disable),
            *(logging.getLoggerClass(), logging.lastResort),
        ),
        LOGGERS: loggers,
        "signal handlers": {n: signal.getsignal(n) for n in signal.valid_signals()},
        "resource limits": {
            name: resource.getrlimit(getattr(resource, name))
            for name in dir(resource) if name.startswith("RLIMIT_")
        },
        "locale": locale.setlocale(locale.LC_ALL),
        "network defaults": (socket.getdefaulttimeout(), urllib.request._opener),
        "start of processes": (
            multiprocessing.get_start_method(allow_none=True),
            torch.multiprocessing.get_sharing_strategy(),
        ),
        FORK_SERVER: list(forkserver._forkserver._preload_modules),
        "allocator": is_mapped(),
        "random numbers of Python": random.getstate(),
        "random numbers of NumPy": (numpy_state[1].tolist(), numpy_state[2:]),
        "random numbers of PyTorch": torch.get_rng_state().tolist(),
        "NumPy": (np.geterr(), np.get_printoptions()),
        "modes of PyTorch": (
            *(torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()),
            *(torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
            *(torch.get_autocast_dtype("cpu"), torch.is_anomaly_enabled()),
            *(torch.are_deterministic_algorithms_enabled(), torch.is_warn_always_enabled()),
            *(torch.get_deterministic_debug_mode(), torch.get_float32_matmul_precision()),
            *(torch.get_num_threads(), torch.get_num_interop_threads()),
            torch.backends.mkldnn.enabled,
            *(cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
            *(cuda.matmul.allow_tf32, cuda.matmul.allow_fp16_reduced_precision_reduction),
            str(torch._tensor_str.PRINT_OPTS),
            torch.distributed.is_initialized(),
        ),
        "loaders of PyTorch": (
            *(torch.load, torch.save, torch.serialization.get_default_load_endianness()),
            set(torch.serialization.get_safe_globals()),
            torch.hub._hub_dir,
        ),
        "compiler of PyTorch": (
            torch._dynamo.config.get_config_copy(), torch._inductor.config.get_config_copy()
        ),
        "loaders of mmengine": (
            dict(CheckpointLoader._schemes),
            {k: v for k, v in vars(checkpoint).items() if callable(v)},
        ),
        "default scope of mmengine": getattr(
            DefaultScope.get_current_instance(), "scope_name", None
        ),
        "methods of mmengine's classes": [
            {k: v for k, v in vars(kind).items() if callable(v)}
            for kind in (Runner, Config, registry.Registry, CheckpointLoader)
        ],
        "OpenCV": (cv2.getNumThreads(), cv2.ocl.useOpenCL(), cv2.useOptimized()),
        "Pillow": (
            *(Image.MAX_IMAGE_PIXELS, Image.WARN_POSSIBLE_FORMATS),
            *(ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK),
        ),
        "matplotlib": (dict(plt.rcParams), plt.get_backend(), plt.get_fignums()),
    }  # fmt: skip


def import_everything():
    import gfnet_dense

    for name in gfnet_dense.__all__:
        getattr(gfnet_dense, name)
    folders = [(gfnet_dense.__path__, "gfnet_dense.")]
    for paths, prefix in folders:
        for module in pkgutil.iter_modules(paths, prefix):
            # What commands share may change the process, which is theirs.
            if module.name != "gfnet_dense.cli":
                imported = import_module(module.name)
                folders += [(imported.__path__, f"{module.name}.")] if module.ispkg else []


class Uses:
    """Each method is a use of the library; its name says which."""

    def __init__(self, data, folder):
        self.data, self.folder = data, folder
        import_everything()
        from tests.checkpoint.weights import tiny_config

        self.cfg = tiny_config()
        self.cfg.model.decode_head.num_classes = 11  # of the demo data
        self.image = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
        with torch.random.fork_rng():
            from gfnet_dense import load_model

            self.model = load_model(self.cfg, None)
        self.weights = folder / "weights.pth"
        torch.save({"state_dict": self.model.state_dict(), "meta": {}}, self.weights)

    def forward_and_backward(self):
        from gfnet_dense import GFNet, HorNet
        from tests.conftest import TINY

        hornet = dict(dims=(4, 8, 16, 32), depths=(1, 1, 1, 1))
        for kind, arch, border in (
            (GFNet, TINY, "circular"), (GFNet, TINY, "zeros"), (HorNet, hornet, "circular"),
        ):  # fmt: skip
            network = kind(arch, img_size=64, border=border)
            sum(y.sum() for y in network(torch.randn(1, 3, 50, 70))).backward()
            with torch.no_grad():
                network.eval()(torch.randn(1, 3, 96, 96))

    def load_a_model(self):
        from gfnet_dense import load_model

        load_model(self.cfg, self.weights)

    def load_a_backbone(self):
        from gfnet_dense import load_backbone

        load_backbone(self.weights)

    def refused_files(self):
        from gfnet_dense import InputError, load_model

        (self.folder / "broken.pth").write_bytes(b"x" * 1000)
        for checkpoint_ in (self.folder / "broken.pth", "none.pth", "torchvision://nothing"):
            try:
                load_model(self.cfg, checkpoint_)
            except InputError:
                continue
            raise AssertionError(f"{checkpoint_} was not refused")

    def predict(self):
        from gfnet_dense import predict

        for _ in predict(self.model, [self.image] * 2, batch_size=2):
            pass
        for _ in predict(self.model, [self.image], window=(64, 64)):
            pass

    def between_two_predictions(self):
        from gfnet_dense import predict

        self.generator = predict(self.model, [self.image] * 2)
        next(self.generator)

    def predict_files(self):
        from gfnet_dense.apis.inputs import find_inputs
        from gfnet_dense.apis.predict_files import PredictOptions, predict_files

        path = self.folder / "a.png"
        Image.fromarray(self.image).save(path)
        files = find_inputs([str(path)]).files
        predict_files(self.model, files, PredictOptions(self.folder / "predicted"))

    def export_a_model(self):
        from gfnet_dense.export import export

        export(self.model, (64, 64), self.folder / "model.pt2")

    def export_to_onnx(self):
        from gfnet_dense.export import export

        if onnxruntime is not None:
            export(self.model, (64, 64), self.folder / "model.onnx")

    def publish_and_convert(self):
        from gfnet_dense.checkpoint.convert import convert
        from gfnet_dense.checkpoint.publish import publish

        publish(self.weights, self.folder / "published.safetensors")
        convert(self.weights, self.folder / "converted.pth", "ours", (96, 96), "trigonometric")

    def share(self):
        from gfnet_dense import from_pretrained, list_models, save_pretrained

        list_models()
        from_pretrained(save_pretrained(self.model, self.folder / "shared"))

    def pictures(self):
        from gfnet_dense import load_backbone
        from gfnet_dense.visualization.filters import draw_filters
        from gfnet_dense.visualization.receptive_field import receptive_field

        backbone = load_backbone(self.weights)
        draw_filters(backbone, "filters", self.folder / "filters.png", channels=2)
        receptive_field(backbone, torch.zeros(1, 3, 64, 64))

    def table_of_the_optimizer(self):
        from gfnet_dense.engine.optimizers.param_groups import build_optimizer, param_group_table

        param_group_table(build_optimizer(self.cfg))

    def browse_the_data(self):
        from gfnet_dense.visualization.browse import browse_dataset

        browse_dataset(self.cfg, "train", 2, 0, self.folder / "browse.png")

    def check_the_data(self):
        from gfnet_dense.datasets.checks.datasets import check_classes, check_dataset_folders
        from gfnet_dense.datasets.survey.survey import survey

        check_dataset_folders(self.cfg, ("train", "val"))
        check_classes(self.cfg, ("train", "val"))
        survey(self.cfg)

    def prepare_a_training(self):
        from gfnet_dense.engine.runner.preparation import prepare_training

        self.cfg.work_dir = str(self.folder / "work")
        prepare_training(self.cfg, resume=True, amp=False)

    def build_a_whole_model_for_a_benchmark(self):
        from gfnet_dense.benchmark.whole_model import build_model

        build_model(self.cfg, "meta")

    def benchmark(self):
        from gfnet_dense.benchmark import mixers
        from gfnet_dense.benchmark.measure import Settings
        from gfnet_dense.benchmark.sweep import run_sweep

        cases = [case for case in mixers.cases([8], Settings()) if "filter" in case.series]
        results = run_sweep(cases, self.folder / "results.json", 1, 100)
        assert results["cases"][0]["status"] == "ok", results

    def train_with_our_runner(self):
        from gfnet_dense.engine.runner import DenseRunner

        self._train(DenseRunner)

    def train_with_the_runner_of_mmengine(self):
        self._train(Runner)

    def _train(self, kind):
        import tests.toy  # registers its model and its data

        assert tests.toy
        loader = dict(
            batch_size=2, num_workers=0, dataset=dict(type="ToyNumbers"),
            sampler=dict(type="InfiniteSampler", shuffle=True),
        )  # fmt: skip
        kind(
            model=dict(type="ToyNet"), work_dir=str(self.folder / kind.__name__),
            train_dataloader=loader, train_cfg=dict(type="IterBasedTrainLoop", max_iters=4),
            optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.01)),
            default_scope="mmengine", cfg=Config(dict(model={})),
        ).train()  # fmt: skip


def change_everything():
    """Change something of each kind, to see that it is noticed."""
    from gfnet_dense.checkpoint.safe_reader import trust_checkpoints
    from gfnet_dense.utils.allocator import keep_freed_memory

    keep_freed_memory()
    trust_checkpoints()
    os.chdir("/")
    sys.path.append("x")
    sys.excepthook = print
    sys.stderr = sys.stdout
    gc.set_threshold(7)
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(3)
    logging.getLogger("torch").setLevel(3)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 3))
    locale.setlocale(locale.LC_ALL, "C")
    socket.setdefaulttimeout(3)
    multiprocessing.set_start_method("fork", force=True)
    multiprocessing.get_context("forkserver").set_forkserver_preload(["json"])
    random.random()
    np.random.rand()
    torch.rand(1)
    np.seterr(all="ignore")
    torch.use_deterministic_algorithms(True)
    torch.serialization.add_safe_globals([dict])
    torch._dynamo.config.suppress_errors = True
    CheckpointLoader._schemes["x"] = print
    CheckpointLoader.load_checkpoint = print
    DefaultScope.get_instance("x", scope_name="x")
    cv2.setNumThreads(7)
    Image.MAX_IMAGE_PIXELS = 3
    plt.rcParams["font.size"] = 3


def changes(use):
    before = snapshot()
    use()
    after = snapshot()
    after[LOGGERS] = {name: after[LOGGERS].get(name) for name in before[LOGGERS]}  # no new ones
    return sorted(kind for kind in before if before[kind] != after[kind])


def in_a_fork(use):
    """Return what a use changes in a fork of this process, or its error."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            answer = changes(use)
        except BaseException:
            answer = traceback.format_exc()
        with os.fdopen(writer, "w") as file:
            file.write(json.dumps(answer))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    os.waitpid(child, 0)
    return json.loads(text)


def main():
    data, folder = map(Path, sys.argv[1:])
    os.chdir(folder)
    multiprocessing.set_start_method("spawn")
    (folder / "data").symlink_to(data)
    found = {"import": changes(import_everything)}
    uses = []
    found["preparation"] = sorted(set(changes(lambda: uses.append(Uses(data, folder)))) - NETWORKS)
    for name in vars(Uses):
        if not name.startswith("_"):
            found[name] = in_a_fork(getattr(uses[0], name))
    found["everything"] = sorted(set(snapshot()) - set(in_a_fork(change_everything)))
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
