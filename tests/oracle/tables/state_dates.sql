-- The days for which the state of every user is asked: the snapshots of the history, and the ends of periods
-- for the migration between them, which are no snapshots by that.
CREATE TABLE state_dates AS
WITH chosen AS (
    SELECT
        day AS state_date,
        CASE getvariable('history') WHEN 'none' THEN false
                                    WHEN 'day' THEN true
                                    WHEN 'week' THEN isodow(day) = 7 OR day = last_date
                                    WHEN 'month' THEN day = last_day(day) OR day = last_date
        END AS is_snapshot,
        getvariable('history') IN ('day', 'week') AND isodow(day) = 7 AS ends_week,
        getvariable('history') <> 'none' AND day = last_day(day) AS ends_month
    FROM days
)
SELECT state_date, is_snapshot
FROM chosen
WHERE is_snapshot OR ends_week OR ends_month;
