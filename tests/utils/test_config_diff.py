from mmengine.config import ConfigDict

from gfnet_dense.utils.config_diff import ABSENT, describe_changes, diff_configs


def test_every_kind_of_difference_is_found_and_described():
    old = ConfigDict(
        a=1, same=[dict(x=0)], size=(512, 512), b=dict(c=dict(d="x"), gone=None),
        pipeline=[dict(type="Load"), dict(type="Resize", scale=(8, 4))], hooks=[dict(type="A")],
    )  # fmt: skip
    new = ConfigDict(
        a=2, same=[dict(x=0)], size=(128, 128), b=dict(c=dict(d="y"), new=0),
        pipeline=[dict(type="Load"), dict(type="Resize", scale=(2, 1))],
        hooks=[dict(type="A"), dict(type="B")],
    )  # fmt: skip
    assert list(diff_configs(old, new)) == [
        ("a", 1, 2),
        ("size", (512, 512), (128, 128)),
        ("b.c.d", "x", "y"),
        ("b.gone", None, ABSENT),
        ("b.new", ABSENT, 0),
        ("pipeline.1.scale", (8, 4), (2, 1)),
        ("hooks", [dict(type="A")], [dict(type="A"), dict(type="B")]),
    ]
    assert describe_changes(old, new).splitlines()[3] == "# b.gone: None -> nothing"
    assert describe_changes(old, old) == ""


def test_an_empty_value_differs_from_an_absent_one():
    assert list(diff_configs({"a": {}}, {})) == [("a", {}, ABSENT)]
    assert list(diff_configs({"a": [{}]}, {"a": []})) == [("a", [{}], [])]
