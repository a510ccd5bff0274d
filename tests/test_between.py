"""Fill between: which gap, what is proposed, and that nothing painted is touched."""

import pytest

from vqseg.annotations import Annotations, SliceState
from vqseg.between import fill_between, gap_around, gaps_between_shapes
from vqseg.errors import AnnotationError

SPACING_MM = (2.0, 1.0, 1.0)


@pytest.fixture
def annotations():
    made = Annotations.empty((20, 32, 32))
    made.labels[2, 8:12, 8:12] = 1
    made.labels[10, 4:16, 4:16] = 1
    for z in (2, 10, 11, 15):
        made.mark(z, SliceState.COMPLETE)
    return made


def test_which_gap(annotations):
    assert gap_around(annotations, 5) == (2, 10)
    assert gap_around(annotations, 10) == (2, 10), "the gap below a complete slice"
    assert gap_around(annotations, 2) == (2, 10), "the gap above, where none is below"
    assert gap_around(annotations, 11) == (11, 15)
    for outside in (0, 17):
        with pytest.raises(AnnotationError, match="either side"):
            gap_around(annotations, outside)
    for z in (12, 13, 14):
        annotations.mark(z, SliceState.COMPLETE)
    with pytest.raises(AnnotationError, match="nothing left"):
        gap_around(annotations, 12)


def test_all_gaps_but_those_between_empty_slices(annotations):
    assert gaps_between_shapes(annotations) == [(2, 10)], "11 and 15 are both empty"
    annotations.labels[15, 8, 8] = 1
    assert gaps_between_shapes(annotations) == [(2, 10), (11, 15)]
    with pytest.raises(AnnotationError, match="no gap to fill"):
        gaps_between_shapes(Annotations.empty((4, 8, 8)))


def test_the_shape_grows_from_slice_to_slice(annotations):
    filling = fill_between(annotations, (2, 10), SPACING_MM)
    assert list(filling.slices) == list(range(3, 10))
    areas = [int((filling.slice(z) == 1).sum()) for z in filling.slices]
    assert areas == sorted(areas)
    assert 16 <= areas[0] < areas[-1] <= 144
    assert filling.slice(6)[10, 10] == 1


def test_what_is_painted_stands(annotations):
    annotations.labels[6, 0, 0] = 3
    annotations.labels[6, 10, 10] = 255
    annotations.mark(6, SliceState.DRAFT)
    filled = fill_between(annotations, (2, 10), SPACING_MM).slice(6)
    assert filled[0, 0] == 3
    assert filled[10, 10] == 255
    assert filled[9, 9] == 1


def test_between_empty_slices_nothing_is_proposed(annotations):
    assert not fill_between(annotations, (11, 15), SPACING_MM).labels.any()
