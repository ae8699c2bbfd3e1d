"""The package gfnet-dense; the exact versions that are tested together are in requirements/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "gfnet_dense/__init__.py").read_text())[1]

# The maintained continuation of OpenMMLab's packages. The original ones have the same import
# names: where they are installed, `pip install --no-deps gfnet-dense` keeps them. Private names of
# mmengine are used (the modules say which), and mmsegmentation and mmdetection refuse other mmcv:
# the next minor release of mmengine and mmcv, and the next major one of the others, is not tried.
MMENGINE = "onedl-mmengine>=0.10.12,<0.11"
MMCV = "onedl-mmcv>=2.3.6,<2.4"
SEG = [MMCV, "onedl-mmsegmentation>=1.4.2,<2"]
DET = [MMCV, "onedl-mmdetection>=3.5.1,<4"]
EXPORT = ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"]
HUB = ["huggingface-hub>=2.4,<3"]
LINT = ["import-linter", "mypy", "ruff"]

setup(
    name="gfnet-dense",
    version=VERSION,
    description="Global Filter Networks for dense prediction, on OpenMMLab",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["gfnet_dense", "gfnet_dense.*"]),
    # .mim is where OpenMMLab's packages keep their configs and tools; here it holds links to them.
    package_data={
        "gfnet_dense": [
            "py.typed",
            "*.pyi",
            ".mim/model-index.yml",
            ".mim/configs/**/*.py",
            ".mim/tools/*.py",
            ".mim/tools/*.sh",
        ]
    },
    entry_points={"console_scripts": ["gfnet-dense = gfnet_dense.__main__:main"]},
    # Windows has no fsync of a folder, and no module resource: checkpoints cannot be saved there.
    classifiers=[
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
    ],
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.6,<3",  # private operators and serialization; 2.6 is the oldest that was tried
        "lazy-loader>=0.5",
        "numpy",
        MMENGINE,
        "rich",
        "safetensors>=0.4",
    ],
    extras_require={
        "seg": SEG,
        "det": DET,
        "export": EXPORT,
        "hub": HUB,
        "test": [
            *SEG,
            *DET,
            *EXPORT,
            *HUB,
            *LINT,
            "hypothesis",
            "pytest",
            "pytest-xdist",
            "tensorboard",
        ],
    },
)
