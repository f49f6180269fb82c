-- The state of every user known by a day, from what had happened by that day.
CREATE TABLE user_states AS
WITH known AS (
    SELECT
        state_date,
        is_snapshot,
        user_id,
        state_date - max(event_date) AS days_since_last_activity,
        state_date - max(event_date) FILTER (WHERE purchases > 0) AS days_since_last_purchase,
        sum(purchases)::BIGINT AS purchase_count,
        sum(orders)::BIGINT AS order_count,
        sum(revenue) FILTER (WHERE purchases > 0) AS customer_ltv
    FROM state_dates
    JOIN fct_user_days ON event_date <= state_date
    GROUP BY state_date, is_snapshot, user_id
),
ranked AS (
    SELECT
        state_date,
        user_id,
        ntile(5) OVER (
            PARTITION BY state_date ORDER BY days_since_last_purchase DESC, user_id
        ) AS recency_score,
        rank() OVER (
            PARTITION BY state_date ORDER BY frequency_of(purchase_count, order_count)
        ) - 1 AS users_below,
        count(*) OVER (PARTITION BY state_date) - 1 AS other_users,
        ntile(5) OVER (PARTITION BY state_date ORDER BY customer_ltv, user_id) AS monetary_score
    FROM known
    WHERE purchase_count > 0
),
scored AS (
    SELECT
        state_date,
        user_id,
        recency_score,
        frequency_score_of(users_below, other_users) AS frequency_score,
        monetary_score
    FROM ranked
),
with_status AS (
    SELECT
        *,
        activity_status_of(
            purchase_count, days_since_last_purchase, days_since_last_activity
        ) AS activity_status,
        lifecycle_stage_of(frequency_of(purchase_count, order_count)) AS customer_lifecycle_stage
    FROM known
)
SELECT
    state_date,
    is_snapshot,
    user_id,
    purchase_count,
    order_count,
    customer_ltv,
    coalesce(customer_ltv, 0)::DECIMAL(38, 9) AS revenue,
    activity_status,
    (activity_status = 'churned')::BIGINT AS is_churned,
    customer_lifecycle_stage,
    recency_score,
    frequency_score,
    monetary_score,
    recency_score + frequency_score + monetary_score AS rfm_score,
    CASE WHEN recency_score IS NULL THEN 'No RFM Score'
         ELSE rfm_segment_of(recency_score, frequency_score, monetary_score) END AS rfm_segment
FROM with_status
LEFT JOIN scored USING (state_date, user_id);
