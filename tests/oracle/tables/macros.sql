-- What every table's SQL may use. There is a file for each table, plain DuckDB SQL; sql.py lists them in
-- the order in which they are run, each after those it reads.
--
-- Reads   events_raw(event_time TIMESTAMP, event_type VARCHAR, product_id BIGINT, category_id BIGINT,
--         category_code VARCHAR, brand VARCHAR, price DECIMAL(38,9), user_id BIGINT, user_session VARCHAR):
--         the accepted rows, times in UTC, brand and category_code lower-cased.
-- Options SET VARIABLE churn_threshold_days, at_risk_threshold_days, declining_threshold_days,
--         session_outlier_ratio, session_timeout_seconds, cohort_observation_window_days,
--         order_gap_seconds, min_pair_baskets, frequency_unit ('items' or 'orders'),
--         history ('none', 'day', 'week' or 'month'); as_of (DATE) and clv_holdout_days
--         may be left out.
-- Function km_median_days(BIGINT[], BIGINT[]) of oracle.py, for exact fractions of any size.
--
-- DuckDB compares text by its bytes. Nothing that is divided here is negative, so rounding half up is
-- rounding half away from zero. Quotients are rounded as whole numbers; only the result becomes a DOUBLE,
-- through its decimal text, which gives the double nearest to the exact decimal.

CREATE MACRO divide_rounded(numerator, denominator) AS
    numerator::HUGEINT // nullif(denominator, 0)::HUGEINT
    + (2 * (numerator::HUGEINT % nullif(denominator, 0)::HUGEINT) >= denominator::HUGEINT)::HUGEINT;

-- Money as a whole number of billionths.
CREATE MACRO billionths(money) AS
    floor(money)::HUGEINT * 1000000000 + ((money - floor(money)) * 1000000000)::HUGEINT;

CREATE MACRO rate(numerator, denominator) AS
    (divide_rounded(numerator::HUGEINT * 1000000, denominator) || 'e-6')::DOUBLE;

CREATE MACRO rate_of_four_decimals(numerator, denominator) AS
    (divide_rounded(numerator::HUGEINT * 10000, denominator) || 'e-4')::DOUBLE;

CREATE MACRO mean_money(total, number) AS
    (divide_rounded(billionths(total), number::HUGEINT * 1000) || 'e-6')::DOUBLE;

CREATE MACRO money_share(part, whole) AS
    (divide_rounded(billionths(part) * 1000000, billionths(whole)) || 'e-6')::DOUBLE;

-- The same of whole billionths: their sums over all rows need all digits that there are.
CREATE MACRO share_of(part, whole) AS
    (divide_rounded(part::HUGEINT * 1000000, whole::HUGEINT) || 'e-6')::DOUBLE;

-- By the share of the rows before a row; all of them billionths.
CREATE MACRO abc_class_of(revenue, up_to, whole) AS
    CASE WHEN revenue = 0 THEN 'C'
         WHEN (up_to::HUGEINT - revenue) * 5 < whole::HUGEINT * 4 THEN 'A'
         WHEN (up_to::HUGEINT - revenue) * 20 < whole::HUGEINT * 19 THEN 'B'
         ELSE 'C' END;

-- Money again, in whole cents.
CREATE MACRO mean_money_in_cents(total, number) AS
    (divide_rounded(billionths(total), number::HUGEINT * 10000000)::DECIMAL(36, 0) * 0.01)::DECIMAL(38, 9);

-- Days, a whole number or their sum, on average; as NUMERIC with two decimals.
CREATE MACRO mean_days(total, number) AS
    (divide_rounded(total::HUGEINT * 100, number)::DECIMAL(36, 0) * 0.01)::DECIMAL(38, 9);

-- Periods are 'day', 'week' (of ISO, named by its Monday) and 'month'.
CREATE MACRO period_start_of(period, day) AS
    date_trunc(period, day)::DATE;

CREATE MACRO period_end_of(period, period_start) AS
    CASE period WHEN 'day' THEN period_start
                WHEN 'week' THEN period_start + 6
                WHEN 'month' THEN last_day(period_start) END;

-- Neighbouring periods have neighbouring numbers. The week's quotient has no remainder.
CREATE MACRO period_index_of(period, day) AS
    CASE period WHEN 'day' THEN day - DATE '1970-01-01'
                WHEN 'week' THEN (period_start_of('week', day) - DATE '1970-01-05') // 7
                WHEN 'month' THEN 12 * year(day) + month(day) END;

-- The rules of a user's state, on any day.
CREATE MACRO activity_status_of(purchase_count, days_since_last_purchase, days_since_last_activity) AS
    CASE WHEN purchase_count = 0 THEN 'prospect'
         WHEN days_since_last_purchase > getvariable('churn_threshold_days')
          AND days_since_last_activity > getvariable('churn_threshold_days') THEN 'churned'
         WHEN days_since_last_purchase > getvariable('at_risk_threshold_days') THEN 'at_risk'
         WHEN days_since_last_purchase > getvariable('declining_threshold_days') THEN 'declining'
         ELSE 'active' END;

CREATE MACRO lifecycle_stage_of(number) AS
    CASE WHEN number = 0 THEN 'Prospect'
         WHEN number = 1 THEN 'First-Time Buyer'
         WHEN number <= 5 THEN 'Repeat Customer'
         ELSE 'Loyal Customer' END;

-- How often a user bought, in the unit of the option.
CREATE MACRO frequency_of(purchase_count, order_count) AS
    CASE getvariable('frequency_unit') WHEN 'items' THEN purchase_count
                                       WHEN 'orders' THEN order_count END;

-- users_below / other_users < 0.2 and so on, without a fraction; one user alone has the score 1.
CREATE MACRO frequency_score_of(users_below, other_users) AS
    CASE WHEN other_users = 0 OR 5 * users_below < 1 * other_users THEN 1
         WHEN 5 * users_below < 2 * other_users THEN 2
         WHEN 5 * users_below < 3 * other_users THEN 3
         WHEN 5 * users_below < 4 * other_users THEN 4
         ELSE 5 END::BIGINT;

CREATE MACRO rfm_segment_of(recency_score, frequency_score, monetary_score) AS
    CASE WHEN recency_score >= 4 AND frequency_score >= 4 AND monetary_score >= 4 THEN 'Champions'
         WHEN recency_score <= 2 AND frequency_score >= 4 AND monetary_score >= 4 THEN 'At Risk'
         WHEN recency_score >= 4 AND frequency_score >= 3 THEN 'Loyal Customers'
         WHEN recency_score >= 3 AND frequency_score >= 3 THEN 'Potential Loyalists'
         WHEN recency_score >= 4 AND frequency_score < 3 THEN 'Recent Customers'
         WHEN recency_score = 3 AND frequency_score < 3 THEN 'Promising'
         WHEN recency_score <= 2 AND frequency_score >= 3 THEN 'About To Sleep'
         WHEN recency_score <= 2 AND frequency_score <= 2 AND monetary_score <= 2 THEN 'Lost'
         ELSE 'Needs Attention' END;
