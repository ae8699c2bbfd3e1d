#!/usr/bin/env python
"""Train a detector by the commands of docs/own_data.md on 200 drawn photos with three classes:

    python .dev/own_detector.py work_dirs/own_detector

The photos are labeled as labelme does it. Weights are random, since no file of ImageNet weights may
be at hand. The commands are printed with the minutes that they take.
"""

import subprocess
import sys
import time
from pathlib import Path

HOME = Path(__file__).parents[1]
sys.path.insert(0, str(HOME))

from gfnet_dense import cli  # noqa: E402
from gfnet_dense.datasets.synthetic.scenes import ADE_INDEX, draw_scene  # noqa: E402
from tests.labeling_tools import write_labelme  # noqa: E402
from tests.own_config import write_own_config  # noqa: E402

CLASSES = ["balloon", "car", "person"]  # sorted, as convert_dataset prints them
NUM_IMAGES = 200
CONFIG = "atss_gfnet-h-ti_own-data"


def draw_photos(folder: Path) -> None:
    """Write photos with labelme's JSON beside them."""
    index = ADE_INDEX | {"balloon": 200}
    scenes = [draw_scene(seed, index=index) for seed in range(NUM_IMAGES)]
    write_labelme(folder, scenes, names={index[name]: name for name in CLASSES})


def run(folder: Path, *words: str) -> None:
    """Run a command in a folder, and print it with the minutes that it takes."""
    start = time.time()
    print("$ python", *words, flush=True)
    tool = str(HOME / words[0])
    subprocess.run([sys.executable, tool, *words[1:]], cwd=folder, check=True)
    print(f"[{(time.time() - start) / 60:.1f} minutes]", flush=True)


def main() -> None:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("folder", type=Path, help="a new folder")
    folder = parser.parse_args().folder
    draw_photos(folder / "photos")
    run(folder, "tools/convert_dataset.py", "photos", "data/my_dataset", "--to", "coco")
    lines = dict(data_root="data/my_dataset", classes=CLASSES)
    assert write_own_config(folder / "my_dataset.py", CONFIG, **lines) == 2
    run(folder, "tools/check_dataset.py", "my_dataset.py")
    options = ["--cfg-options", "model.backbone.init_cfg=None"]
    run(folder, "tools/train.py", "my_dataset.py", *options)
    (best,) = folder.glob("work_dirs/my_dataset/best_*.pth")
    checkpoint = str(best.relative_to(folder))
    run(folder, "tools/test.py", "my_dataset.py", checkpoint, *options)
    run(folder, "tools/analyze_errors.py", "my_dataset.py", checkpoint, *options)


if __name__ == "__main__":
    main()
