import numpy as np

from vqseg.annotations import Annotations, SliceState
from vqseg.extent import keep_reachable, reach

SPACING_MM = (2.0, 1.0, 0.5)


def annotated(slices, holding, depth=30):
    labels = np.zeros((depth, 16, 16), np.uint8)
    labels[holding, 4:8, 4:8] = 1
    return Annotations.from_slices(labels, slices)


def test_reach_goes_half_a_gap_beyond_the_outermost_labelled_slice():
    annotations = annotated([10, 14, 18], [10, 14, 18])
    assert reach(annotations, 1, SPACING_MM) == (8, 20)


def test_an_empty_complete_slice_speaks_louder():
    annotations = annotated([5, 10, 14, 18, 28], [10, 14, 18])
    assert reach(annotations, 1, SPACING_MM) == (6, 27)
    assert reach(annotations, 2, SPACING_MM) is None


def test_from_a_single_slice_it_reaches_twice_as_far_as_it_is_wide():
    assert reach(annotated([15], [15]), 1, SPACING_MM) == (11, 19)  # 4 rows of 1 mm, 8 mm each way, slices of 2 mm
    assert reach(annotated([15], [15]), 1, (50.0, 1.0, 0.5)) == (14, 16)
    assert reach(annotated([2], [2]), 1, SPACING_MM) == (0, 6)
    scribbled = annotated([15], [15])
    scribbled.mark(15, SliceState.SCRIBBLED)
    assert reach(scribbled, 1, SPACING_MM) == (0, 29), "a stroke is narrower than what it is in"
    assert reach(annotated([13, 15], [15]), 1, SPACING_MM) == (14, 16), "a second slice tells more than its width"


def test_loose_pieces_and_far_slices_go_touching_ones_stay():
    annotations = annotated([10, 14, 18], [10, 14, 18])
    labels = np.zeros((30, 16, 16), np.uint8)
    labels[2:28, 4:8, 4:8] = 1
    labels[12, 12:15, 12:15] = 1
    labels[12, 0:2, 0:2] = 2
    keep_reachable(labels, annotations, 2, SPACING_MM)
    assert sorted(set(np.nonzero(labels)[0].tolist())) == list(range(8, 21))
    assert not labels[12, 12:15, 12:15].any()
    assert not (labels == 2).any()
    assert (labels[9:20, 4:8, 4:8] == 1).all()


def test_a_volume_without_labels_keeps_what_is_predicted():
    labels = np.ones((4, 5, 5), np.uint8)
    keep_reachable(labels, Annotations.empty(labels.shape), 1, SPACING_MM)
    assert labels.all()
