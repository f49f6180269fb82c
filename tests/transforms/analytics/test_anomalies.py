"""How days are judged, beyond the examples by hand of the table."""

import numpy as np

from transforms.analytics.anomalies import judge


def judged(*series, is_count=False):
    """The judgement on days of one weekday, whole millionths."""
    values = np.empty((len(series), len(series[0])), np.object_)
    values[:] = series
    return judge(
        values,
        np.zeros(values.shape[1], np.int64),
        np.full(len(series), is_count),
        last_is_complete=True,
    )


def test_numbers_beyond_64_bits_are_exact():
    large = 10**35 + 1
    found = judged([large, large, large, large, large + 1, 2 * large])
    assert found.expected[0, 4:].tolist() == [large, large]
    assert found.scale[0, 4] == 5 * 10**33
    assert found.score[0, 5] == 20 * 10**6
    assert found.is_anomaly[0].tolist() == [False] * 5 + [True]


def test_the_root_is_the_nearest_whole_number():
    found = judged([6] * 5, [7] * 5, is_count=True)  # 2449.49 and 2645.75
    assert found.scale[:, 4].tolist() == [2449, 2646]


def test_halves_are_rounded_up_and_a_missing_value_is_no_day():
    found = judged([1, None, 2, 1, 2, None, 9])
    assert found.baseline_days[0].tolist() == [0, 1, 1, 2, 3, 4, 4]
    assert found.expected[0].tolist() == [None] * 5 + [2, 2]
    assert found.score[0, 5] is None
    assert found.score[0, 6] == 7_000_000


def test_weekdays_are_apart_and_no_series_is_judged_by_another():
    values = np.empty((2, 10), np.object_)
    values[:] = [[10, 90] * 5, [90, 10] * 5]
    weekdays = np.tile([0, 6], 5)
    found = judge(values, weekdays, np.zeros(2, np.bool_), last_is_complete=True)
    assert found.expected[:, 8:].tolist() == [[10, 90], [90, 10]]
    assert not found.is_anomaly.any()


def test_no_series_and_no_days():
    for shape in ((0, 3), (2, 0), (0, 0)):
        weekdays, counts = np.zeros(shape[1], np.int64), np.zeros(shape[0], np.bool_)
        found = judge(np.empty(shape, np.object_), weekdays, counts, last_is_complete=False)
        assert found.is_anomaly.shape == shape
