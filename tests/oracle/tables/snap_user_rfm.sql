-- A user who is once there is in every later snapshot, so runs are found by comparing neighbours.
CREATE TABLE snap_user_rfm AS
WITH states AS (
    SELECT
        *,
        struct_pack(
            recency_score,
            frequency_score,
            monetary_score
        ) AS versioned
    FROM user_states
    JOIN snapshots ON snapshot_date = state_date
    WHERE recency_score IS NOT NULL
),
compared AS (
    SELECT
        *,
        versioned IS DISTINCT FROM lag(versioned) OVER (
            PARTITION BY user_id ORDER BY snapshot_date
        ) AS begins_version
    FROM states
),
numbered AS (
    SELECT
        *,
        count(*) FILTER (WHERE begins_version) OVER (
            PARTITION BY user_id ORDER BY snapshot_date
        ) AS version
    FROM compared
),
versions AS (
    SELECT
        user_id,
        version,
        min(snapshot_date) AS valid_from,
        CASE WHEN bool_and(next_snapshot_date IS NOT NULL) THEN max(next_snapshot_date) END AS valid_to,
        any_value(recency_score) AS recency_score,
        any_value(frequency_score) AS frequency_score,
        any_value(monetary_score) AS monetary_score,
        any_value(rfm_score) AS rfm_score,
        any_value(rfm_segment) AS rfm_segment
    FROM numbered
    GROUP BY user_id, version
)
SELECT
    user_id,
    valid_from,
    valid_to,
    valid_to IS NULL AS is_current,
    recency_score,
    frequency_score,
    monetary_score,
    rfm_score,
    rfm_segment,
    lag(rfm_segment) OVER (PARTITION BY user_id ORDER BY version) AS previous_segment
FROM versions;
