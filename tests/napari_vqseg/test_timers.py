"""Timers of the window: what is asked often is done seldom, and nothing is done after the end."""

import threading
import time
from itertools import pairwise

from qtpy.QtCore import QObject

from napari_vqseg.timers import Paced, QtScheduler


def test_what_is_asked_often_is_done_seldom_and_the_last_time_counts(qtbot):
    parent, done, asked = QObject(), [], [0]
    paced = Paced(0.1, lambda: done.append((time.monotonic(), asked[0])), parent)
    until = time.monotonic() + 0.55
    while time.monotonic() < until:
        asked[0] += 1
        paced.ask()
        qtbot.wait(2)
    qtbot.waitUntil(lambda: bool(done) and done[-1][1] == asked[0], timeout=1000)
    gaps = [b - a for (a, _), (b, _) in pairwise(done)]
    assert gaps
    assert min(gaps) > 0.09
    paced.ask()
    paced.stop()
    count = len(done)
    qtbot.wait(200)
    assert len(done) == count


def test_a_save_does_not_wait_behind_an_export(qtbot):
    scheduler, saved, exported, failed = QtScheduler(), [], [], []
    may_end = threading.Event()
    scheduler.aside(lambda: may_end.wait(10), exported.append, failed.append)
    scheduler.background(lambda: "saved", saved.append, failed.append)
    qtbot.waitUntil(lambda: bool(saved), timeout=5000)
    assert exported == []
    may_end.set()
    qtbot.waitUntil(lambda: exported == [True], timeout=5000)
    scheduler.close()
    assert failed == []


def test_a_closed_scheduler_calls_nobody_but_finishes_what_it_was_given(qtbot):
    scheduler, done, saved = QtScheduler(), [], []
    timer = scheduler.debounce(0.01, lambda: done.append("timer"))
    for number in range(3):
        scheduler.background(lambda number=number: time.sleep(0.05) or saved.append(number), done.append, done.append)
    timer.start()
    start = time.monotonic()
    scheduler.close()
    assert time.monotonic() - start < 0.05
    qtbot.waitUntil(lambda: saved == [0, 1, 2], timeout=5000)
    qtbot.wait(50)
    assert done == []


def test_steps_have_turns_of_their_own_and_sequences_follow_one_another(qtbot):
    scheduler, seen, parent = QtScheduler(), [], QObject()
    other = Paced(0, lambda: seen.append("event"), parent)

    def steps(name):
        for number in range(2):
            seen.append(f"{name}{number}")
            other.ask()
            yield

    scheduler.in_turns(steps("a"))
    scheduler.in_turns(steps("b"))
    assert seen == []
    qtbot.waitUntil(lambda: seen[-1:] == ["event"] and "b1" in seen, timeout=5000)
    assert [item for item in seen if item != "event"] == ["a0", "a1", "b0", "b1"]
    assert "event" in seen[seen.index("a0") : seen.index("b1")]
    scheduler.in_turns(steps("c"))
    scheduler.close()
    qtbot.wait(50)
    assert "c0" not in seen
