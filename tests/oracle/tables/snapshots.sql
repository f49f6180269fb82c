-- The snapshots with the ones that follow them; the last has none.
CREATE TABLE snapshots AS
SELECT
    state_date AS snapshot_date,
    lead(state_date) OVER (ORDER BY state_date) AS next_snapshot_date
FROM state_dates
WHERE is_snapshot;
