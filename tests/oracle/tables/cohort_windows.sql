-- The windows of every member of a cohort that have begun: their dates, as far as D1 or beyond.
CREATE TABLE cohort_windows AS
WITH span AS (
    SELECT DISTINCT first_date, last_date FROM days
),
lengths(period, length) AS (
    VALUES ('week', 7), ('month', 30)
),
brackets(period_number, first_offset, last_offset) AS (
    VALUES (0, 0, 0), (1, 1, 7), (2, 8, 30), (3, 31, 60), (4, 61, 90), (5, 91, 180), (6, 181, 365)
),
windows AS (
    SELECT
        cohort_by,
        user_id,
        cohort_date,
        'calendar' AS method,
        period,
        period_start_of(period, cohort_date) AS cohort_start,
        period_index - period_index_of(period, cohort_date) AS period_number,
        period_start AS first_day,
        period_end AS last_day,
        period_end_of(period, period_start_of(period, cohort_date)) AS last_day_of_window_0
    FROM cohort_members
    JOIN calendar ON period IN ('week', 'month') AND period_end >= cohort_date
    UNION ALL
    SELECT
        cohort_by,
        user_id,
        cohort_date,
        'rolling',
        period,
        period_start_of(period, cohort_date),
        number,
        (cohort_date + number * length)::DATE,
        (cohort_date + (number + 1) * length - 1)::DATE,
        cohort_date + length - 1
    FROM cohort_members
    CROSS JOIN span
    CROSS JOIN lengths
    CROSS JOIN LATERAL (
        SELECT unnest(generate_series(0, (last_date - cohort_date) // length))::INTEGER AS number
    )
    UNION ALL
    SELECT
        cohort_by,
        user_id,
        cohort_date,
        'bracket',
        'day',
        period_start_of('month', cohort_date),
        period_number,
        cohort_date + first_offset,
        cohort_date + last_offset,
        cohort_date
    FROM cohort_members
    CROSS JOIN span
    JOIN brackets ON cohort_date + first_offset <= last_date
)
SELECT
    windows.*,
    last_day <= last_date AS is_eligible,
    cohort_start <= first_date AS is_left_censored
FROM windows
CROSS JOIN span;
