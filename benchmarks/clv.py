"""Time and memory of the lifetime value models, on simulated customers.

The customers come in shards, one after the other, as they do in the program; what is measured of a
shard is what its worker does, and of the fit what the one worker does that fits.
"""

from __future__ import annotations

import argparse
import datetime as dt
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np
import polars as pl

from transforms.analytics.clv import (
    Validation,
    count_patterns,
    fit_models,
    merge_patterns,
    merge_spend,
    predict_users,
    sample_spend,
    summarise,
)
from transforms.analytics.lifetime_models import MBG_NBD
from transforms.rules import ClvOptions
from transforms.schema import CLV_HORIZONS

LAST_DAY: Final = dt.date(2020, 4, 30)
DAYS: Final = 213
_SHARD_CUSTOMERS: Final = 250_000
_Result = TypeVar("_Result")


def simulated_purchase_days(
    customers: int,
    seed: int,
    *,
    days: int = DAYS,
    frequency: tuple[float, float, float, float] = (0.5, 40, 0.9, 1.6),
    spend: tuple[float, float, float] = (6.25, 3.74, 15.44),
) -> pl.DataFrame:
    """Purchase days of customers who behave as MBG/NBD and Gamma-Gamma assume.

    Args:
        customers: How many.
        seed: Of the random numbers.
        days: Days of the data; customers begin on any of them.
        frequency: r, alpha in days, a and b.
        spend: p, q and v.

    Returns:
        Columns `user_id`, `event_date`, `revenue`: one row per customer and day, the last of
        which is `LAST_DAY`.
    """
    random = np.random.default_rng(seed)
    (r, alpha, a, b), (p, q, v) = frequency, spend
    rate = random.gamma(r, 1 / alpha, customers)
    loss = random.beta(a, b, customers)
    first = random.integers(0, days, customers)
    users, when = np.arange(customers), np.zeros(customers)
    bought = [(users, first)]
    while len(users):
        users = users[random.random(len(users)) >= loss[users]]
        when[users] += random.exponential(1 / rate[users])
        users = users[first[users] + when[users] < days]
        bought.append((users, first[users] + when[users].astype(np.int64)))
    user, day = (np.concatenate(parts) for parts in zip(*bought, strict=True))
    spender = random.gamma(q, 1 / v, customers)
    value = random.gamma(p, 1 / spender[user])
    cents = np.maximum(1, np.round(value * 100)).astype(np.int64)
    begin = LAST_DAY - dt.timedelta(days=days - 1)
    return (
        pl.DataFrame({"user_id": user + seed * customers, "day": day, "cents": cents})
        .group_by("user_id", "day")
        .agg(pl.col("cents").first())
        .select(
            "user_id",
            event_date=pl.lit(begin) + pl.duration(days=pl.col("day")),
            revenue=pl.col("cents").cast(pl.Decimal(38, 9)) / 100,
        )
        .with_columns(pl.col("revenue").cast(pl.Decimal(38, 9)))
    )


def _timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    begun = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begun


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "linux" else peak / 1024**2


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=DAYS)
    options = parser.parse_args(arguments)

    shards = max(1, options.customers // _SHARD_CUSTOMERS)
    customers = options.customers // shards
    patterns = pl.DataFrame()
    spend = pl.DataFrame()
    partials = merging = 0.0
    for seed in range(shards):
        days = simulated_purchase_days(customers, seed, days=options.days)

        def shard(days: pl.DataFrame = days) -> tuple[pl.DataFrame, pl.DataFrame]:
            summary = summarise(days, LAST_DAY)
            return count_patterns(summary), sample_spend(summary)

        (counts, sample), seconds = _timed(shard)
        partials += seconds
        begun = time.perf_counter()
        patterns = merge_patterns(pl.concat([patterns, counts])) if seed else counts
        spend = merge_spend(pl.concat([spend, sample])) if seed else sample
        merging += time.perf_counter() - begun
    fits, fitting = _timed(lambda: fit_models(patterns, spend, LAST_DAY))
    peak = _peak_megabytes()

    summary = summarise(simulated_purchase_days(customers, 0, days=options.days), LAST_DAY)
    validation = Validation(pl.DataFrame(), MBG_NBD, "ok")
    predicted, predicting = _timed(lambda: predict_users(summary, fits, validation, ClvOptions()))

    print(f"{customers * shards:,} customers, {patterns.height:,} patterns, {spend.height:,} spend")
    for fit in fits.fits.values():
        print(f"  {fit.model}: {fit.status}, {fit.evaluations} evaluations, {dict(fit.parameters)}")
    print(f"counts of the shards   {partials / (customers * shards) * 1e6:8.2f} µs a customer")
    print(f"merging                {merging:8.2f} s")
    print(f"fits of three models   {fitting:8.2f} s")
    print(f"peak of memory         {peak:8.0f} MB")
    each = predicting / predicted.height / len(CLV_HORIZONS) * 1e6
    print(f"prediction             {each:8.2f} µs a customer and horizon")


if __name__ == "__main__":
    main()
