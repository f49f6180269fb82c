-- A calendar window 0 begins before the member's own first day; nothing that is counted here can be there:
-- no visit is before the first, no purchase before the first, and the first day itself makes the member active.
-- The rows over all cohorts add up the cohorts that have a row for the same window, cohort_users too.
CREATE TABLE metrics_cohort_retention AS
WITH activities(activity) AS (
    VALUES ('visit'), ('purchase')
),
by_member AS (
    SELECT
        cohort_by,
        method,
        period,
        cohort_start,
        is_left_censored,
        period_number,
        activity,
        user_id,
        is_eligible,
        coalesce(bool_or(event_date BETWEEN first_day AND last_day), false) AS is_retained,
        coalesce(bool_or(event_date >= first_day), false) AS is_retained_later
    FROM cohort_windows
    CROSS JOIN activities
    LEFT JOIN activity_days USING (user_id, activity)
    GROUP BY ALL
),
money_by_member AS (
    SELECT
        cohort_by,
        method,
        period,
        period_number,
        user_id,
        sum(purchases) FILTER (WHERE event_date BETWEEN first_day AND last_day) AS purchases,
        sum(orders) FILTER (WHERE event_date BETWEEN first_day AND last_day) AS orders,
        sum(revenue) FILTER (WHERE event_date BETWEEN first_day AND last_day) AS revenue,
        sum(revenue) FILTER (WHERE event_date <= last_day_of_window_0) AS base_revenue,
        sum(revenue) FILTER (WHERE event_date <= last_day) AS cumulative_revenue
    FROM cohort_windows
    JOIN fct_user_days USING (user_id)
    WHERE event_date >= cohort_date
    GROUP BY ALL
),
cohort_sizes AS (
    SELECT cohort_by, method, period, cohort_start, count(DISTINCT user_id) AS cohort_users
    FROM cohort_windows
    GROUP BY ALL
),
by_cohort AS (
    SELECT
        cohort_by,
        activity,
        method,
        period,
        cohort_start,
        period_number,
        is_left_censored,
        cohort_users,
        count(*) FILTER (WHERE is_eligible) AS eligible_users,
        count(*) FILTER (WHERE is_eligible AND is_retained) AS retained_users,
        count(*) FILTER (WHERE is_eligible AND is_retained_later) AS retained_later_users,
        coalesce(sum(purchases) FILTER (WHERE is_eligible), 0)::BIGINT AS purchases,
        coalesce(sum(orders) FILTER (WHERE is_eligible), 0)::BIGINT AS orders,
        coalesce(sum(revenue) FILTER (WHERE is_eligible), 0)::DECIMAL(38, 9) AS revenue,
        coalesce(sum(base_revenue) FILTER (WHERE is_eligible), 0)::DECIMAL(38, 9) AS base_revenue,
        coalesce(sum(cumulative_revenue) FILTER (WHERE is_eligible), 0)::DECIMAL(38, 9)
            AS cumulative_revenue
    FROM by_member
    JOIN money_by_member USING (cohort_by, method, period, period_number, user_id)
    JOIN cohort_sizes USING (cohort_by, method, period, cohort_start)
    GROUP BY ALL
),
with_overall AS (
    FROM by_cohort
    UNION ALL
    SELECT
        cohort_by,
        activity,
        method,
        period,
        NULL,
        period_number,
        false,
        sum(cohort_users)::BIGINT,
        sum(eligible_users)::BIGINT,
        sum(retained_users)::BIGINT,
        sum(retained_later_users)::BIGINT,
        sum(purchases)::BIGINT,
        sum(orders)::BIGINT,
        sum(revenue),
        sum(base_revenue),
        sum(cumulative_revenue)
    FROM by_cohort
    WHERE NOT is_left_censored
    GROUP BY cohort_by, activity, method, period, period_number
)
SELECT
    cohort_by,
    activity,
    method,
    period,
    cohort_start,
    period_number,
    cohort_users,
    eligible_users,
    retained_users,
    retained_later_users,
    purchases,
    orders,
    revenue,
    base_revenue,
    cumulative_revenue,
    rate(retained_users, eligible_users) AS retention_rate,
    rate(retained_later_users, eligible_users) AS unbounded_retention_rate,
    money_share(revenue, base_revenue) AS revenue_retention_rate,
    mean_money_in_cents(cumulative_revenue, eligible_users) AS cumulative_revenue_per_user,
    eligible_users = cohort_users AS is_complete,
    is_left_censored
FROM with_overall;
