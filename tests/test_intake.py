"""Labels from elsewhere: classes by name, slices by choice, nothing overwritten."""

from __future__ import annotations

import numpy as np
import pytest

from vqseg.annotations import Annotations, SliceState
from vqseg.errors import AnnotationError
from vqseg.intake import labelled_slices, planes_across, prepare
from vqseg.io import LabelMap

SHAPE = (6, 4, 4)


def found(names, **slices):
    array = np.zeros(SHAPE, np.uint8)
    for z, value in slices.items():
        array[int(z[1:]), 1, 1] = value
    return LabelMap(array, names)


def test_classes_are_matched_by_name():
    names = {1: "tumour", 2: "left lung"}
    taken = prepare(found({1: "Left Lung", 7: "heart"}, z1=1, z2=7), Annotations.empty(SHAPE), names)
    assert taken.class_names == {1: "tumour", 2: "left lung", 7: "heart"}
    assert (taken.labels[1, 1, 1], taken.labels[2, 1, 1]) == (2, 7)
    assert taken.slices == [1, 2]
    assert names == {1: "tumour", 2: "left lung"}


def test_without_names_the_values_count_and_a_taken_value_gets_another():
    taken = prepare(found({}, z0=1, z1=3), Annotations.empty(SHAPE), {1: "tumour"})
    assert taken.class_names == {1: "tumour", 3: "label 3"}
    taken = prepare(found({1: "heart"}, z0=1), Annotations.empty(SHAPE), {1: "tumour"})
    assert taken.class_names == {1: "tumour", 2: "heart"}
    assert taken.labels[0, 1, 1] == 2


def test_a_class_that_comes_along_takes_no_value_that_the_file_uses_for_another():
    taken = prepare(found({1: "lung"}, z1=1, z2=2), Annotations.empty(SHAPE), {1: "tumour"})
    assert taken.class_names == {1: "tumour", 2: "label 2", 3: "lung"}
    assert (taken.labels[1, 1, 1], taken.labels[2, 1, 1]) == (3, 2)


def test_slices_are_chosen_and_what_is_labelled_here_stays():
    annotations = Annotations.empty(SHAPE)
    annotations.mark(2, SliceState.DRAFT)
    labels = found({1: "tumour"}, z1=1, z2=1, z4=1)
    assert labelled_slices(labels) == [1, 2, 4]
    taken = prepare(labels, annotations, {1: "tumour"}, range(1, 4))
    assert (taken.slices, taken.kept) == ([1, 3], [2])  # 3 is empty: a true negative


@pytest.mark.parametrize(
    ("slices", "words"), [([0], "no label in these slices"), ([4, 9], "Slice 9 lies outside"), ([], "no label")]
)
def test_nothing_to_take_over(slices, words):
    with pytest.raises(AnnotationError, match=words):
        prepare(found({}, z4=1), Annotations.empty(SHAPE), {1: "tumour"}, slices)


def test_no_more_than_254_classes():
    full = {value: f"class {value}" for value in range(1, 255)}
    with pytest.raises(AnnotationError, match="more than 254 classes"):
        prepare(found({1: "one more"}, z4=1), Annotations.empty(SHAPE), full)
    assert prepare(found({}, z4=9), Annotations.empty(SHAPE), full).class_names == full


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (np.s_[:, :, [1, 4, 7]], (2, [1, 4, 7])),  # sagittal
        (np.s_[:, [3], :], (1, [3])),  # one coronal slice
        (np.s_[[0, 5], :, :], None),  # axial
        (np.s_[[2], :, [4]], None),  # a single line tells nothing
        (np.s_[:, 2:4, [1, 4]], (2, [1, 4])),
        (np.s_[:, :, 2:4], None),  # filled
        (np.s_[:0], None),
    ],
)
def test_labels_drawn_across_the_slices_are_known(drawn, expected):
    labels = np.zeros((6, 8, 9), np.uint8)
    labels[drawn] = 1
    assert planes_across(labels) == expected
