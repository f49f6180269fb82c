-- Every period from the one that holds D0 to the one that holds D1.
CREATE TABLE calendar AS
WITH periods(period) AS (
    VALUES ('day'), ('week'), ('month')
),
found AS (
    SELECT DISTINCT period, period_start_of(period, day) AS period_start, first_date, last_date
    FROM days
    CROSS JOIN periods
)
SELECT
    period,
    period_start,
    period_end_of(period, period_start) AS period_end,
    period_index_of(period, period_start) AS period_index,
    period_end_of(period, period_start) <= last_date AS is_complete,
    period_start <= first_date AS is_left_censored
FROM found;
