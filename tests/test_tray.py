"""What the desk does next."""

import threading

import pytest

from vqseg.protocol import LoadCheckpoint, OpenCase, RequestCodebook, RequestPreview, UpdateAnnotations
from vqseg.tray import PredictionJob, Tray

OPEN, LOAD, CHANGED = OpenCase("project", "b"), LoadCheckpoint("run"), UpdateAnnotations("a")


class Survey:
    """Two slices long."""

    def __init__(self):
        self.left = 2

    @property
    def finished(self):
        return not self.left

    def advance(self):
        self.left -= 1


class OtherSurvey(Survey):
    pass


def preview(number, case_id="a", z=3):
    return RequestPreview(number, case_id, z)


def test_the_newest_preview_goes_first_and_the_rest_keeps_its_order():
    tray, job, codebook = Tray(), PredictionJob(["a"]), RequestCodebook(1, "a")
    for item in (job, preview(1), codebook, preview(2)):
        tray.put(item)
    assert [tray.take() for _ in range(3)] == [preview(2), job, codebook]


@pytest.mark.parametrize("before", [OPEN, LOAD, CHANGED])
def test_a_preview_overtakes_nothing_that_changes_what_it_shows(before):
    tray = Tray()
    tray.put(before)
    tray.put(preview(1, "b"))
    assert tray.take() is before
    assert tray.take() == preview(1, "b")


@pytest.mark.parametrize(("before", "waits"), [(OPEN, True), (LOAD, True), (CHANGED, False)])
def test_in_the_midst_of_a_prediction_previews_of_the_case_on_show_are_served(before, waits):
    tray = Tray()
    tray.put(before)
    tray.put(preview(1))
    tray.wait(lambda: waits)  # which comes back at once where the preview may be taken
    assert (tray.take_preview() is None) == waits


def test_surveys_wait_for_everything_else_and_take_turns():
    tray, first, second = Tray(), Survey(), OtherSurvey()
    tray.begin(first)
    tray.begin(second)
    tray.put(CHANGED)
    assert tray.take() is CHANGED
    assert tray.take() is first
    tray.begin(first)
    assert tray.take() is second
    assert tray.take() is first


def test_a_survey_takes_the_place_of_one_of_its_kind_and_can_be_ended():
    tray, newer = Tray(), Survey()
    tray.begin(Survey())
    tray.begin(newer)
    tray.put(CHANGED)
    assert [tray.take(), tray.take()] == [CHANGED, newer]
    tray.begin(newer)
    tray.begin(OtherSurvey())
    tray.end(Survey)
    assert isinstance(tray.take(), OtherSurvey)
    tray.begin(newer)
    tray.end_surveys()
    tray.put(CHANGED)
    tray.leave()
    assert tray.take() is None


def test_whoever_waits_is_woken_by_what_comes_and_by_the_end():
    tray, taken = Tray(), []

    def empty():
        while (item := tray.take()) is not None:
            taken.append(item)

    thread = threading.Thread(target=empty)
    thread.start()
    tray.put(OPEN)
    tray.leave()
    thread.join(10)
    assert not thread.is_alive()
    assert taken in ([], [OPEN])


def test_it_remembers_which_slice_of_a_case_was_looked_at():
    tray = Tray()
    tray.put(preview(1, "a", z=7))
    assert (tray.looked_at("a", 1), tray.looked_at("b", 1)) == (7, 1)
