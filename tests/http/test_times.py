"""Times in requests: every form of ISO 8601 and RFC 3339 that clients write, and milliseconds since 1970."""

import pytest

from server.http.fields import Instant
from tests.api.test_steps import a_step

NOON = "2026-01-24T12:00:00.000Z"
SAME = [
    "2026-01-24T12:00:00.000Z",
    "2026-01-24t12:00:00z",
    "2026-01-24 12:00:00z",
    "2026-01-24T12:00:00",
    "2026-01-24T12:00",
    "20260124T120000Z",
    "2026-01-24T14:00:00+02:00",
    "2026-01-24t14:00:00+0200",
    "2026-01-24T06:30:00.000000000-05:30",
    "2026-01-24T13:00:00+01:00[Europe/Berlin]",
    "2026-01-24t13:00+01:00[europe/berlin]",
    "2026-01-24T12:00:00Z[UTC]",
    "2026-01-24T07:00:00-05:00[America/New_York][u-ca=gregory]",
    " 2026-01-24T12:00:00Z ",
    1769256000000,
    1769256000000.0,
    1769256000000.4,
    "1769256000000",
]
LEAP = [
    "2026-01-24T11:59:60Z",
    "2026-01-24t11:59:60.5z",
    "2026-01-24T13:59:60,123456789+02:00",
    "20260124T115960Z",
    "2026-01-24T11:59:60",
    "2026-01-24T12:59:60+01:00[Europe/Berlin]",
]
WRONG = [
    "",
    "yesterday",
    "24.01.2026",
    "2026-02-30T00:00:00Z",
    "2026-01-24T12:00:61Z",
    "2026-01-24T12:60:00Z",
    "2026-01-24T11:60:60Z",
    "2026-01-24T12:00:00[Europe/Berlin]",  # without an offset, which time is meant depends on the zone
    "2026-01-24[Europe/Berlin]",
    "2026-01-24T12:00:00Z[]",
    "2026-01-24T12:00:00Z[a",
    "2026-01-24T12:00:00ZZ",
    "1769256000",  # seconds
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:60-14:00",
    1e300,
    10**30,
    True,
    [],
    {},
]
OUTSIDE = ["1969-12-31T23:59:59Z", "9999-01-01T00:00:00Z", "1970-01-01T00:59:59+01:00", -1, 253370764800000]


@pytest.mark.parametrize("value", SAME)
def test_every_form_of_a_time_is_understood(value):
    assert Instant.parse(value).isoformat(timespec="milliseconds") == NOON.replace("Z", "+00:00")


@pytest.mark.parametrize("value", LEAP)
def test_a_leap_second_is_the_last_millisecond_of_its_minute(value):
    assert Instant.parse(value).isoformat(timespec="milliseconds") == "2026-01-24T11:59:59.999+00:00"


@pytest.mark.parametrize("value", [*WRONG, *OUTSIDE], ids=str)
def test_other_values_are_refused(value):
    wanted = "must lie in the years 1970 to 9998" if value in OUTSIDE else "must be an ISO 8601 time"
    with pytest.raises(ValueError, match=wanted):
        Instant.parse(value)


def test_the_first_and_the_last_time():
    assert Instant.parse(0).isoformat() == "1970-01-01T00:00:00+00:00"
    assert Instant.parse(5.25).microsecond == 5250
    assert Instant.parse("9998-12-31t23:59:60z").isoformat() == "9998-12-31T23:59:59.999000+00:00"


async def test_times_are_understood_in_bodies_forms_and_queries(client, make_run, case_url, rows):
    case = await case_url()
    steps = [a_step(number, started_at=value) for number, value in enumerate([*SAME, *LEAP])]
    assert (await client.post(f"{case}/steps", json={"steps": steps})).status == 201
    stored = [step["started_at"] for step in await (await client.get(f"{case}/steps?shape=array")).json()]
    assert stored == [NOON] * len(SAME) + ["2026-01-24T11:59:59.999Z"] * len(LEAP)
    run = await make_run(started_at=1769256000000)
    for since, found in [("1769256000000", True), ("1769256000001", False), ("2026-01-24t12:00:00z", True)]:
        items = (await (await client.get("/api/v1/reports/suite-runs", params={"since": since})).json())["items"]
        assert (run in [item["id"] for item in items]) == found, since
