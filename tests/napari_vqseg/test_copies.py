"""Copies of the annotated slices: as they were when asked for, and no more copied than has changed."""

import numpy as np

from napari_vqseg.session.copies import SliceCopies
from vqseg.annotations import Annotations, SliceState


def drawn():
    annotations = Annotations.empty((8, 6, 5))
    for z in (1, 3, 4):
        annotations.set_slice(z, np.full((6, 5), z), SliceState.COMPLETE)
    return annotations


def test_a_snapshot_is_of_the_moment_it_was_asked_for():
    annotations, copies = drawn(), SliceCopies()
    make = copies.snapshot(annotations)
    annotations.labels[3, 2:4] = 7
    annotations.clear(1)
    annotations.mark(5, SliceState.DRAFT)
    later = copies.snapshot(annotations)()
    made = make()
    assert made.complete == [1, 3, 4]
    assert np.array_equal(made.labels, drawn().labels)
    assert (later.complete, later.draft) == ([3, 4], [5])
    assert np.array_equal(later.labels, annotations.labels)


def test_slices_are_copied_some_at_once_and_never_in_vain():
    annotations, copies = drawn(), SliceCopies()
    assert len(list(copies.update(annotations, 2))) == 1
    before = dict(copies._copies)
    annotations.labels[4, 0, 0] = 9
    copies.snapshot(annotations)
    assert [z for z in before if copies._copies[z] is not before[z]] == [4]
