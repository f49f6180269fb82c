-- A user who is once there is in every later snapshot, so runs are found by comparing neighbours.
CREATE TABLE snap_user_status AS
WITH states AS (
    SELECT
        *,
        struct_pack(
            activity_status,
            is_churned,
            purchase_count,
            order_count,
            customer_ltv
        ) AS versioned
    FROM user_states
    JOIN snapshots ON snapshot_date = state_date
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
        any_value(activity_status) AS activity_status,
        any_value(is_churned) AS is_churned,
        any_value(purchase_count) AS purchase_count,
        any_value(order_count) AS order_count,
        any_value(customer_ltv) AS customer_ltv,
        any_value(customer_lifecycle_stage) AS customer_lifecycle_stage
    FROM numbered
    GROUP BY user_id, version
)
SELECT
    user_id,
    valid_from,
    valid_to,
    valid_to IS NULL AS is_current,
    activity_status,
    is_churned,
    purchase_count,
    order_count,
    customer_ltv,
    customer_lifecycle_stage,
    lag(activity_status) OVER (PARTITION BY user_id ORDER BY version) AS previous_status
FROM versions;
