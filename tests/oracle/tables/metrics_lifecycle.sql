CREATE TABLE metrics_lifecycle AS
WITH activities(activity) AS (
    VALUES ('visit'), ('purchase')
),
periods(period) AS (
    VALUES ('day'), ('week'), ('month')
),
active AS (
    SELECT
        activity,
        period,
        user_id,
        period_index_of(period, event_date) AS period_index,
        sum(revenue) AS revenue
    FROM activity_days
    CROSS JOIN periods
    GROUP BY ALL
),
with_neighbours AS (
    SELECT
        *,
        lag(period_index) OVER of_user AS previous_index,
        lag(revenue) OVER of_user AS previous_revenue,
        lead(period_index) OVER of_user AS next_index
    FROM active
    WINDOW of_user AS (PARTITION BY activity, period, user_id ORDER BY period_index)
),
states AS (
    SELECT
        activity,
        period,
        period_index,
        CASE WHEN previous_index IS NULL THEN 'new'
             WHEN previous_index = period_index - 1 THEN 'retained'
             ELSE 'resurrected' END AS state,
        revenue,
        CASE WHEN previous_index = period_index - 1 THEN previous_revenue ELSE 0 END AS revenue_before
    FROM with_neighbours
    UNION ALL
    SELECT activity, period, period_index + 1, 'dormant', 0, revenue
    FROM with_neighbours
    WHERE next_index IS DISTINCT FROM period_index + 1
),
summed AS (
    SELECT
        activity,
        period,
        period_index,
        count(*) FILTER (WHERE state <> 'dormant') AS active_users,
        count(*) FILTER (WHERE state = 'new') AS new_users,
        count(*) FILTER (WHERE state = 'retained') AS retained_users,
        count(*) FILTER (WHERE state = 'resurrected') AS resurrected_users,
        count(*) FILTER (WHERE state = 'dormant') AS dormant_users,
        sum(revenue) AS revenue,
        sum(revenue) FILTER (WHERE state = 'new') AS revenue_new,
        sum(revenue) FILTER (WHERE state = 'resurrected') AS revenue_resurrected,
        sum(greatest(0, revenue - revenue_before)) FILTER (WHERE state = 'retained')
            AS revenue_expansion,
        sum(greatest(0, revenue_before - revenue)) FILTER (WHERE state = 'retained')
            AS revenue_contraction,
        sum(revenue_before) FILTER (WHERE state = 'dormant') AS revenue_churned
    FROM states
    GROUP BY activity, period, period_index
),
-- Periods without anybody are there too, for either activity, even if nobody ever buys.
series AS (
    SELECT
        activity,
        period,
        period_start,
        period_index,
        is_complete,
        is_left_censored,
        coalesce(active_users, 0) AS active_users,
        coalesce(new_users, 0) AS new_users,
        coalesce(retained_users, 0) AS retained_users,
        coalesce(resurrected_users, 0) AS resurrected_users,
        coalesce(dormant_users, 0) AS dormant_users,
        coalesce(revenue, 0)::DECIMAL(38, 9) AS revenue,
        coalesce(revenue_new, 0)::DECIMAL(38, 9) AS revenue_new,
        coalesce(revenue_resurrected, 0)::DECIMAL(38, 9) AS revenue_resurrected,
        coalesce(revenue_expansion, 0)::DECIMAL(38, 9) AS revenue_expansion,
        coalesce(revenue_contraction, 0)::DECIMAL(38, 9) AS revenue_contraction,
        coalesce(revenue_churned, 0)::DECIMAL(38, 9) AS revenue_churned
    FROM calendar
    CROSS JOIN activities
    LEFT JOIN summed USING (activity, period, period_index)
),
with_period_before AS (
    SELECT
        *,
        coalesce(lag(active_users) OVER of_series, 0) AS active_before,
        coalesce(lag(revenue) OVER of_series, 0)::DECIMAL(38, 9) AS revenue_before
    FROM series
    WINDOW of_series AS (PARTITION BY activity, period ORDER BY period_index)
)
-- Nobody loses more than there was before, so no rate is negative.
SELECT
    activity,
    period,
    period_start,
    active_users,
    new_users,
    retained_users,
    resurrected_users,
    dormant_users,
    new_users + resurrected_users - dormant_users AS net_users,
    CASE WHEN is_complete THEN rate(retained_users, active_before) END AS retention_rate,
    CASE WHEN is_complete THEN rate(dormant_users, active_before) END AS churn_rate,
    CASE WHEN is_complete THEN rate(new_users + resurrected_users, dormant_users) END AS quick_ratio,
    revenue,
    revenue_new,
    revenue_resurrected,
    revenue_expansion,
    revenue_contraction,
    revenue_churned,
    CASE WHEN is_complete THEN money_share(
        revenue_before - revenue_contraction - revenue_churned, revenue_before
    ) END AS gross_revenue_retention,
    CASE WHEN is_complete THEN money_share(
        revenue_before - revenue_contraction - revenue_churned + revenue_expansion, revenue_before
    ) END AS net_revenue_retention,
    CASE WHEN is_complete THEN money_share(
        revenue_new + revenue_resurrected + revenue_expansion, revenue_contraction + revenue_churned
    ) END AS revenue_quick_ratio,
    is_complete,
    is_left_censored
FROM with_period_before;
