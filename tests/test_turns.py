"""Who has the processor when: a thread that trains by steps and one that answers."""

import threading

import pytest

from vqseg.turns import Turns

WITHIN_S = 10


@pytest.fixture
def turns():
    return Turns(clock=lambda: 0.0)


class Answers:
    """A thread that wants turns, and what was done in them."""

    def __init__(self, turns, count=1, urgent=lambda: False):
        self.done, self.in_turn, self.go_on = [], threading.Event(), threading.Event()
        self._turns, self._count, self._urgent = turns, count, urgent
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        for number in range(self._count):
            with self._turns.answer(urgent=self._urgent):
                self.in_turn.set()
                assert self.go_on.wait(WITHIN_S)
                self.done.append(number)


def asking(turns):
    """Wait until the other thread asks for a turn."""
    for _ in range(1000):
        if turns._asking:
            return
        threading.Event().wait(0.005)
    raise AssertionError("nobody asks")


def test_without_training_an_answer_waits_for_nobody(turns):
    with turns.answer(), turns.answer(urgent=lambda: True):
        pass
    turns.pause()


def test_whoever_waits_has_one_turn_between_two_steps(turns):
    with turns.train():
        answers = Answers(turns, count=3)
        answers.go_on.set()
        asking(turns)
        assert answers.done == []
    for step in range(1, 3):
        with turns.train():
            assert answers.done == list(range(step))
            asking(turns)
    answers.thread.join(WITHIN_S)
    assert answers.done == [0, 1, 2]


def test_short_turns_follow_one_another_until_they_have_taken_as_long_as_the_step():
    now = [0.0]
    turns = Turns(lambda: now[0])
    answered = []

    def answer():
        for number in range(6):
            with turns.answer():
                now[0] += 1
                answered.append(number)

    with turns.train():
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        asking(turns)
        now[0] += 3
    with turns.train():
        assert answered == [0, 1, 2]
        asking(turns)
    thread.join(WITHIN_S)
    assert len(answered) == 6


def test_a_step_waits_for_the_turn_under_way(turns):
    answers = Answers(turns)
    assert answers.in_turn.wait(WITHIN_S)
    stepped = threading.Event()

    def step():
        with turns.train():
            stepped.set()

    thread = threading.Thread(target=step)
    thread.start()
    assert not stepped.wait(0.1)
    answers.go_on.set()
    assert stepped.wait(WITHIN_S)
    thread.join()


@pytest.mark.parametrize("urgent", [True, False])
def test_only_an_urgent_answer_has_its_turn_in_the_middle_of_a_step(turns, urgent):
    with turns.train():
        answers = Answers(turns, urgent=lambda: urgent)
        answers.go_on.set()
        asking(turns)
        turns.pause()
        assert answers.done == [0] * urgent
    answers.thread.join(WITHIN_S)
    assert answers.done == [0]


def test_an_answer_that_becomes_urgent_waits_no_longer_and_the_step_counts_without_it():
    now, urgent = [0.0], []
    turns = Turns(lambda: now[0])
    answered = []

    def answer():
        for number in range(4):
            with turns.answer(urgent=lambda: bool(urgent)):
                now[0] += 1
                answered.append(number)

    with turns.train():
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        asking(turns)
        now[0] += 2
        turns.pause()
        assert answered == []
        urgent.append(True)
        turns.pause()
        assert answered == [0]
        urgent.clear()
        asking(turns)
    with turns.train():
        assert answered == [0, 1, 2]
        asking(turns)
    thread.join(WITHIN_S)
    assert len(answered) == 4


def test_a_step_that_fails_leaves_the_others_their_turns(turns):
    def fail():
        with turns.train():
            asking(turns)
            raise RuntimeError("the step")

    with turns.train():
        answers = Answers(turns, count=2)
        asking(turns)
    answers.go_on.set()
    with pytest.raises(RuntimeError, match="the step"):
        fail()
    answers.thread.join(WITHIN_S)
    assert answers.done == [0, 1]
