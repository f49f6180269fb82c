CREATE TABLE metrics_repeat_purchase AS
WITH span AS (
    SELECT DISTINCT first_date, last_date FROM days
),
-- A step goes from a purchase day to the next one, or to D1 where there is none yet.
steps AS (
    SELECT
        date_trunc('month', min(event_date) OVER (PARTITION BY user_id))::DATE AS cohort_start,
        row_number() OVER of_user + 1 AS purchase_number,
        lead(event_date) OVER of_user - event_date AS gap_days,
        last_date - event_date AS observed_days,
        first_date
    FROM activity_days
    CROSS JOIN span
    WHERE activity = 'purchase'
    WINDOW of_user AS (PARTITION BY user_id ORDER BY event_date)
),
in_groups AS (
    SELECT cohort_start, purchase_number, gap_days, observed_days
    FROM steps
    WHERE purchase_number <= 10
    UNION ALL
    SELECT NULL, purchase_number, gap_days, observed_days
    FROM steps
    WHERE purchase_number <= 10 AND cohort_start > first_date
),
ranked AS (
    SELECT
        *,
        count(gap_days) OVER (
            PARTITION BY cohort_start, purchase_number ORDER BY gap_days NULLS LAST
        ) AS reached_within,
        count(gap_days) OVER (PARTITION BY cohort_start, purchase_number) AS reached_at_all
    FROM in_groups
),
summed AS (
    SELECT
        cohort_start,
        purchase_number,
        count(*) AS at_risk,
        count(gap_days) AS reached,
        count(*) FILTER (WHERE observed_days >= 30) AS eligible_30,
        count(*) FILTER (WHERE observed_days >= 30 AND gap_days <= 30) AS reached_30,
        count(*) FILTER (WHERE observed_days >= 60) AS eligible_60,
        count(*) FILTER (WHERE observed_days >= 60 AND gap_days <= 60) AS reached_60,
        count(*) FILTER (WHERE observed_days >= 90) AS eligible_90,
        count(*) FILTER (WHERE observed_days >= 90 AND gap_days <= 90) AS reached_90,
        count(*) FILTER (WHERE observed_days >= 180) AS eligible_180,
        count(*) FILTER (WHERE observed_days >= 180 AND gap_days <= 180) AS reached_180,
        min(gap_days) FILTER (WHERE 100 * reached_within >= 25 * reached_at_all) AS p25_days,
        min(gap_days) FILTER (WHERE 100 * reached_within >= 50 * reached_at_all) AS median_days,
        min(gap_days) FILTER (WHERE 100 * reached_within >= 75 * reached_at_all) AS p75_days,
        min(gap_days) FILTER (WHERE 100 * reached_within >= 90 * reached_at_all) AS p90_days,
        sum(gap_days) AS sum_of_days,
        km_median_days(
            list(gap_days) FILTER (WHERE gap_days IS NOT NULL),
            list(observed_days) FILTER (WHERE gap_days IS NULL)
        ) AS km_median_days
    FROM ranked
    GROUP BY cohort_start, purchase_number
)
SELECT
    cohort_start,
    purchase_number,
    at_risk,
    reached,
    rate(reached, at_risk) AS reach_rate,
    eligible_30,
    reached_30,
    rate(reached_30, eligible_30) AS repurchase_rate_30,
    eligible_60,
    reached_60,
    rate(reached_60, eligible_60) AS repurchase_rate_60,
    eligible_90,
    reached_90,
    rate(reached_90, eligible_90) AS repurchase_rate_90,
    eligible_180,
    reached_180,
    rate(reached_180, eligible_180) AS repurchase_rate_180,
    p25_days,
    median_days,
    p75_days,
    p90_days,
    mean_days(sum_of_days, reached) AS mean_days,
    km_median_days
FROM summed;
