"""Where a training stands, by the clock and by its steps."""

import dataclasses

import pytest

from vqseg.config import TrainConfig
from vqseg.errors import ConfigError
from vqseg.schedule import RISE_STEPS, Schedule


def test_a_budget_counts_the_seconds_of_its_steps():
    schedule = Schedule(TrainConfig(time_budget_s=10, iterations=3))
    schedule.advance(4.0)
    assert (schedule.step_index, schedule.progress, schedule.time_left_s, schedule.finished) == (1, 0.4, 6, False)
    schedule.advance(7.0)
    assert (schedule.step_index, schedule.progress, schedule.time_left_s, schedule.finished) == (2, 1, 0, True)


def test_without_a_budget_the_steps_count_and_tell_the_time_left():
    schedule = Schedule(TrainConfig(time_budget_s=0, iterations=4))
    schedule.advance(2.0)
    assert (schedule.progress, schedule.time_left_s) == (0.25, 6)
    for _ in range(3):
        assert not schedule.finished
        schedule.advance(2.0)
    assert schedule.finished


def test_the_warm_up_comes_on_top_and_at_the_full_rate():
    schedule = Schedule(TrainConfig(time_budget_s=10, warmup_s=3))
    assert (schedule.warming_up, schedule.rate, schedule.time_left_s) == (True, 1, 13)
    schedule.advance(4.0)
    assert (schedule.warming_up, schedule.step_index, schedule.progress, schedule.time_left_s) == (False, 0, 0, 10)


def test_the_rate_rises_then_falls_to_nothing():
    schedule = Schedule(TrainConfig(time_budget_s=0, iterations=10 * RISE_STEPS))
    rates = []
    while not schedule.finished:
        rates.append(schedule.rate)
        schedule.advance(1.0)
    rates.append(schedule.rate)
    highest = max(rates)
    assert rates.index(highest) == RISE_STEPS - 1
    assert rates[:RISE_STEPS] == sorted(rates[:RISE_STEPS])
    assert rates[RISE_STEPS - 1 :] == sorted(rates[RISE_STEPS - 1 :], reverse=True)
    assert 0.95 < highest <= 1
    assert rates[-1] == 0


def test_it_goes_on_from_where_it_stood():
    config = TrainConfig(time_budget_s=10, warmup_s=3)
    schedule, again = Schedule(config), Schedule(config)
    for seconds in (4.0, 2.5):
        schedule.advance(seconds)
    again.restore({**schedule.state, "device": "cpu"})
    assert again.state == schedule.state
    assert again.progress == 0.25


def test_a_training_without_an_end_is_refused():
    endless = TrainConfig(time_budget_s=0, iterations=0)
    with pytest.raises(ConfigError, match="time_budget_s and iterations"):
        Schedule(endless)
    schedule = Schedule(TrainConfig(time_budget_s=10))
    with pytest.raises(ConfigError, match="time_budget_s and iterations"):
        schedule.config = endless
    schedule.config = dataclasses.replace(schedule.config, time_budget_s=20)
    assert schedule.time_left_s == 20
