"""Label sets: our own come back as they were, those of ITK-SNAP and 3D Slicer are understood, others are refused."""

import pytest

from vqseg.errors import AnnotationError
from vqseg.io.label_set import LabelClass, read_label_set, write_label_set

ITK_SNAP = """\
################################################
# ITK-SnAP Label Description File
################################################
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "Left lung"
    7     0  255  128      0.5  1  0    "Tumour"
"""
SLICER = """\
# Color table file lungs.ctbl
# 3 values
0 Background 0 0 0 0
2 left_lung 128 174 128 255
1 tumour 241 214 145 255
"""


def test_our_own_keep_order_and_colours(tmp_path):
    classes = [LabelClass(3, "Lunge (äußere)", "#E8601C"), LabelClass(1, "tumour", "")]
    write_label_set(tmp_path / "set.json", classes)
    assert read_label_set(tmp_path / "set.json") == classes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ITK_SNAP, [LabelClass(1, "Left lung", "#FF0000"), LabelClass(7, "Tumour", "#00FF80")]),
        (SLICER, [LabelClass(2, "left lung", "#80AE80"), LabelClass(1, "tumour", "#F1D691")]),
    ],
)
def test_those_of_others(tmp_path, text, expected):
    (tmp_path / "set.txt").write_text(text)
    assert read_label_set(tmp_path / "set.txt") == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no label set"),
        ("1 2 3", "no label set"),
        ("{}", "no label set"),
        ('{"kind": "label-set", "schema": 9, "classes": []}', "no label set"),
        ("300 vein 1 2 3 255", "above 254"),
        ("1 vein 1 2 3 255\n1 artery 1 2 3 255", "two the same"),
        ('{"kind": "label-set", "schema": 1, "classes": [{"value": 1, "name": " "}]}', "without a name"),
    ],
)
def test_others_are_refused(tmp_path, text, words):
    (tmp_path / "set.txt").write_text(text)
    with pytest.raises(AnnotationError, match=words):
        read_label_set(tmp_path / "set.txt")


def test_a_picture_is_no_label_set(tmp_path):
    (tmp_path / "set.json").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(AnnotationError, match="no label set"):
        read_label_set(tmp_path / "set.json")
