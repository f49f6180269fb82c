-- Every day from D0 to D1; none where nothing is kept.
CREATE TABLE days AS
WITH bounds AS (
    SELECT (SELECT min(event_date) FROM fct_events) AS first_date, as_of AS last_date
    FROM event_counts
)
SELECT
    first_date + number::INTEGER AS day,
    first_date,
    last_date
FROM bounds
CROSS JOIN unnest(generate_series(0, last_date - first_date)) AS numbers(number);
