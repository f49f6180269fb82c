"""The benchmark of the lifetime value models runs, and its customers are as many as asked for."""

from benchmarks.clv import LAST_DAY, main, simulated_purchase_days


def test_it_says_what_was_fitted_and_what_it_cost(capsys):
    main(["--customers", "3000", "--days", "150"])
    said = capsys.readouterr().out
    assert said.startswith("3,000 customers, ")
    for line in ("mbg_nbd: ok", "gamma_gamma: ok", "peak of memory", "prediction"):
        assert line in said


def test_each_customer_buys_and_once_a_day():
    days = simulated_purchase_days(500, 3, days=100)
    assert days["user_id"].n_unique() == 500
    assert days.select("user_id", "event_date").is_unique().all()
    assert days["event_date"].max() <= LAST_DAY
    assert (LAST_DAY - days["event_date"].min()).days < 100
    assert days["revenue"].min() > 0
