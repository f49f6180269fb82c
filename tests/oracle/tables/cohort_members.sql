-- A user's place in a cohort: the date of the first visit or purchase.
CREATE TABLE cohort_members AS
SELECT 'first_visit' AS cohort_by, user_id, min(event_date) AS cohort_date
FROM fct_user_days
GROUP BY user_id
UNION ALL
SELECT 'first_purchase', user_id, min(event_date)
FROM fct_user_days
WHERE purchases > 0
GROUP BY user_id;
