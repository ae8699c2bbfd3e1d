"""Class names of a config against the categories of a COCO file: all ways in which they differ."""

import re

import pytest

from gfnet_dense.datasets.coco.names import check_names, simplify
from gfnet_dense.utils.errors import InputError
from tests.coco_files import category, content_of, read_split, shorten, write_data
from tests.conftest import needs_operators

pytestmark = needs_operators

OWN = ("disc", "blob")
USED = "used, labels by name"
COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def of(*categories):
    """Return a file whose annotations have the ids of the last two categories in turn."""
    content = content_of()
    content["categories"] = list(categories)
    for i, annotation in enumerate(content["annotations"]):
        annotation["category_id"] = categories[i % 2 - 2].get("id")
    return content


def named(*names):
    return of(*(category(i + 1, name) for i, name in enumerate(names)))


# (how the lists differ, classes of the config, file, expected)
WAYS = [
    ("same names, same order", OWN, named(*OWN), USED),
    ("the config names a part, in the file's order", ("blob",), named(*OWN), USED),
    ("the config has another order", ("blob", "disc"), named(*OWN), "in the order disc, blob"),
    ("the file has another order", OWN, named("blob", "disc"), "in the order blob, disc"),
    ("a part in another order", ("c", "a"), named("a", "b", "c"), "in the order a, c"),
    ("the file lacks a class", ("disc", "blob", "cone"), named(*OWN), "class 'cone' is not in"),
    ("all names differ", ("cat", "dog"), named(*OWN), "class 'cat' is not in"),
    ("the config kept COCO's 80 names", None, named(*OWN), "class 'person' is not in"),
    ("case", OWN, named("disc", "Blob"), "class 'blob' is not in .* which has: disc, Blob"),
    ("a space at the end", OWN, named("disc", "blob "), "class 'blob' is not in"),
    ("space and underscore", ("a b", "c"), named("a_b", "c"), "class 'a b' is not in"),
    ("Unicode forms", (COMPOSED, "c"), named(DECOMPOSED, "c"), "class 'caf.' is not in"),
    (
        "a root category of another name",
        OWN,
        of(category(0, "shapes"), category(1, "disc"), category(2, "blob")),
        USED,
    ),
    (
        "a root category of a class's name",
        OWN,
        of(category(0, "disc"), category(1, "disc"), category(2, "blob")),
        "2 categories with the name 'disc'",
    ),
    (
        "two categories of one name, both used",
        OWN,
        named("disc", "disc", "blob"),
        "2 categories with the name 'disc'",
    ),
    (
        "two categories of a name that the config leaves out",
        ("disc", "blob"),
        named("x", "x", "disc", "blob"),
        USED,
    ),
    ("ids that are not 1, 2, ...", OWN, of(category(90, "disc"), category(7, "blob")), USED),
    ("negative ids", OWN, of(category(-2, "disc"), category(-1, "blob")), USED),
    ("ids 1.0 and 2.0", OWN, of(category(1.0, "disc"), category(2.0, "blob")), USED),
    ("ids as text", OWN, of(category("1", "disc"), category("2", "blob")), "has the id '1'"),
    (
        "one id twice",
        OWN,
        of(category(1, "disc"), category(1, "blob")),
        "categories .* have the id 1",
    ),
    ("no id", OWN, of(dict(name="disc"), category(1, "blob")), "has no id"),
    ("no name", OWN, of(dict(id=1), category(2, "blob")), "category 1 .* has no name"),
    ("a number as name", OWN, of(category(1, 7), category(2, "blob")), "category 1 .* has no name"),
    ("no categories", OWN, dict(content_of(), categories=[]), "it has no categories"),
    (
        "classes='disc', without a comma",
        "disc",
        named(*OWN),
        "classes of CocoDataset is the text 'disc'",
    ),
    ("classes=()", (), named(*OWN), r"needs class names"),
    ("a class twice in the config", ("disc", "disc"), named(*OWN), "'disc' is there twice"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("names"))


def outcome(folder, split, classes, content):
    """Read a file; return what the table says, after a check of the labels."""
    write_data(folder, content)
    try:
        dataset, evaluator, _ = read_split(folder, split, classes)
    except InputError as e:
        return shorten(e, folder), str(e)
    names = {each["id"]: each["name"] for each in content["categories"]}
    if evaluator is not None:  # as compute_metrics does
        numbers = evaluator._coco_api.get_cat_ids(cat_names=dataset.metainfo["classes"])
        assert [names[number] for number in numbers] == list(classes)
    num_used = 0
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        own = [each for each in content["annotations"] if each["image_id"] == info["img_id"]]
        own = [each for each in own if names[each["category_id"]] in classes]
        expected = [classes.index(names[each["category_id"]]) for each in own]
        assert [instance["bbox_label"] for instance in info["instances"]] == expected
        num_used += len(own)
    assert num_used
    return USED, USED


def test_labels_are_those_of_the_names_or_the_file_is_refused(folder, check_table):
    rows = [["names of config and file", "what happens"]]
    for way, classes, content, expected in WAYS:
        found = [outcome(folder, split, classes, content) for split in ("train", "val")]
        for _, message in found:
            assert_matches(expected, message, way)
        cells = {cell.replace("val.json", "train.json") for cell, _ in found}
        assert len(cells) == 1
        rows.append([way, cells.pop()])
    check_table("class names", rows)


def assert_matches(expected, message, way):
    assert re.search(expected, message), (way, message)


def test_the_cure_is_a_line_that_is_accepted(folder):
    cases = [(("blob", "disc"), named(*OWN)), (None, named(*OWN)), (("disc", "x"), named(*OWN))]
    for classes, content in cases:
        _, message = outcome(folder, "train", classes, content)
        line = message.partition("metainfo=dict(classes=")[2].partition(")")[0] + ")"
        assert outcome(folder, "train", eval(line), content)[0] == USED


def test_train_and_val_file_that_differ_are_refused_with_any_classes(folder):
    write_data(folder, train=named("disc", "blob"), val=named("blob", "disc"))
    for classes, split in [(OWN, "val"), (("blob", "disc"), "train")]:
        with pytest.raises(InputError, match=rf"{split}.json has the classes in the order"):
            for each in ("train", "val"):
                read_split(folder, each, classes)


def test_long_lists_are_shortened_in_messages():
    names = [f"class {i}" for i in range(300)]
    (message,) = check_names([category(i, n) for i, n in enumerate(names)], ["x"], "a.json")
    assert "(300 in all)" in message and len(message) < 8000
    assert simplify("Traffic_Light ") == simplify("traffic-light")
