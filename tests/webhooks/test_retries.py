"""When a delivery is attempted again, and when it is given up."""

import pytest

from server.webhooks.retries import DAY, DELAYS, next_delay


def test_attempts_get_rarer_and_end_after_about_a_day():
    age, attempts = 0.0, 0
    while (delay := next_delay(attempts + 1, age, 500, None)) is not None:
        assert delay >= DELAYS[attempts]
        age += delay
        attempts += 1
    assert 0.9 * DAY < age < 1.1 * DAY and attempts > 10
    assert sorted(DELAYS) == DELAYS


def test_deliveries_that_failed_together_do_not_come_again_together():
    assert len({next_delay(3, 0, None, None) for _ in range(20)}) == 20


def test_a_target_that_is_gone_is_not_asked_again():
    assert next_delay(1, 0, 410, None) is None


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(None, 10, 11), (5, 10, 11), (100, 100, 110), (1e9, 14400, 15840)]
)
def test_a_target_may_ask_for_more_time_within_bounds(asked, least, most):
    assert least <= next_delay(1, 0, 503, asked) <= most


def test_a_delivery_that_a_person_tries_again_after_days_is_given_up_when_it_fails():
    assert next_delay(14, 10 * DAY, 500, None) is None and next_delay(2, 10 * DAY, 500, None) is None
