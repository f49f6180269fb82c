"""Funnels of a shop's own: metrics_funnels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Final

import numpy as np
import polars as pl

from transforms.analytics.calendar import Calendar
from transforms.analytics.funnels import (
    LEVELS,
    USERS,
    VALUE_KEYS,
    WAITS,
    kept_values,
    with_other_values,
)
from transforms.analytics.metrics.funnel import SESSION_FUNNEL
from transforms.analytics.metrics.metric import Facts, Metric, Partial, Source
from transforms.columnar.money import MONEY, average_money, rate
from transforms.funnels import ALL, OVERALL, Funnel
from transforms.schema import METRICS_FUNNELS

_LEVELS: Final = Partial(
    "funnel_levels",
    Source.FUNNELS,
    LEVELS,
    (*VALUE_KEYS, "level", "open_until"),
    attrgetter("levels"),
)
_WAITS: Final = Partial(
    "funnel_waits", Source.FUNNELS, WAITS, (*VALUE_KEYS, "step", "seconds"), attrgetter("waits")
)
_USERS: Final = Partial(
    "funnel_users", Source.FUNNELS, USERS, (*VALUE_KEYS, "level"), attrgetter("users")
)

_PERCENTILES: Final = {
    "p25_seconds": (1, 4),
    "median_seconds": (1, 2),
    "p75_seconds": (3, 4),
    "p90_seconds": (9, 10),
}

_Z: Final = 1.959964
"""The standard normal deviate of 95 %."""

_ONE: Final = 1e6

_STEP: Final = ("funnel", "breakdown", "value", "step_number")


def metrics_funnels(partials: Mapping[str, pl.DataFrame], facts: Facts) -> pl.DataFrame:
    """The rows of metrics_funnels."""
    kept = kept_values(partials[_LEVELS.name])
    levels, waits, users = (
        with_other_values(partials[partial.name], kept) for partial in (_LEVELS, _WAITS, _USERS)
    )
    steps = _steps(facts.rules.funnels, levels)
    rows = (
        steps.join(_entities(steps, levels, facts.calendar), on=_STEP, how="left")
        .join(_users(steps, users), on=_STEP, how="left")
        .with_columns(pl.col("entities", "open_entities", "users").fill_null(0))
        .join(_times(waits), on=_STEP, how="left")
        .sort(_STEP)
    )
    is_first = (pl.col("step_number") == 1) & (pl.col("entities") > 0)
    rows = rows.with_columns(
        # Who takes the first step begins with it.
        *(pl.when(is_first).then(0).otherwise(name).alias(name) for name in _PERCENTILES),
        mean_seconds=pl.when(is_first).then(pl.lit(0, MONEY)).otherwise("mean_seconds"),
        of_first=pl.col("entities").first().over(VALUE_KEYS),
        before=pl.col("entities").shift().over(VALUE_KEYS),
        closed=pl.col("entities") - pl.col("open_entities"),
    ).with_columns(closed_of_first=pl.col("closed").first().over(VALUE_KEYS))
    names = pl.Series([funnel.name for funnel in facts.rules.funnels], dtype=pl.String)
    return METRICS_FUNNELS.conform(
        rows.with_columns(
            names.gather(rows["funnel"]).alias("funnel"),
            conversion_from_start=rate(rows["entities"], rows["of_first"]),
            conversion_from_previous=rate(rows["entities"], rows["before"]),
            closed_conversion_from_start=rate(rows["closed"], rows["closed_of_first"]),
            **wilson_interval(rows["entities"], rows["of_first"]),
        )
    )


def wilson_interval(successes: pl.Series, trials: pl.Series) -> dict[str, pl.Series]:
    """The 95 % interval of a share: `conversion_low`, `conversion_high`; NULL of no trials.

    Edwin B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927;
    rounded half up to six decimals.
    """
    hits, all_of_them = successes.cast(pl.Float64).to_numpy(), trials.cast(pl.Float64).to_numpy()
    is_some = all_of_them > 0
    total = np.where(is_some, all_of_them, 1.0)
    square = _Z * _Z
    spread = _Z * np.sqrt(hits * (total - hits) / total + square / 4)
    ends = {}
    for name, end in (
        ("conversion_low", hits + square / 2 - spread),
        ("conversion_high", hits + square / 2 + spread),
    ):
        rounded = np.floor(end / (total + square) * _ONE + 0.5) / _ONE
        ends[name] = pl.Series(rounded).set(pl.Series(~is_some), None)
    return ends


def _steps(funnels: Sequence[Funnel], levels: pl.DataFrame) -> pl.DataFrame:
    """A row for each step of each value, of `overall` also where nobody has come."""
    steps = pl.DataFrame(
        [
            (place, number, step.name)
            for place, funnel in enumerate(funnels)
            for number, step in enumerate(funnel.steps, 1)
        ],
        schema={"funnel": pl.Int64, "step_number": pl.Int64, "step_name": pl.String},
        orient="row",
    )
    overall = steps.select("funnel", breakdown=pl.lit(OVERALL), value=pl.lit(ALL))
    values = pl.concat((overall, levels.select(VALUE_KEYS))).unique()
    return values.join(steps, on="funnel")


def _entities(steps: pl.DataFrame, levels: pl.DataFrame, calendar: Calendar | None) -> pl.DataFrame:
    """`entities` and `open_entities` of each step."""
    last_day = 0 if calendar is None else calendar.last_day
    is_open = (pl.col("open_until") > last_day).fill_null(value=False)
    return (
        steps.join(levels, on=VALUE_KEYS)
        .filter(pl.col("level") >= pl.col("step_number"))
        .group_by(_STEP)
        .agg(
            pl.col("entities").sum(),
            pl.col("entities").filter(is_open).sum().alias("open_entities"),
        )
    )


def _users(steps: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    """`users` of each step."""
    return (
        steps.join(users, on=VALUE_KEYS)
        .filter(pl.col("level") >= pl.col("step_number"))
        .group_by(_STEP)
        .agg(pl.col("users").sum())
    )


def _times(waits: pl.DataFrame) -> pl.DataFrame:
    """Percentiles and mean of the seconds to each step but the first, exactly.

    A percentile is the smallest number of seconds with at least that share of all up to it.
    """
    counted = (
        waits.rename({"step": "step_number"})
        .group_by(*_STEP, "seconds")
        .agg(pl.col("entities").sum())
        .sort(*_STEP, "seconds")
    )
    up_to, total = pl.col("entities").cum_sum(), pl.col("entities").sum()
    return counted.group_by(_STEP).agg(
        *(
            pl.col("seconds").filter(whole * up_to >= part * total).first().alias(name)
            for name, (part, whole) in _PERCENTILES.items()
        ),
        average_money((pl.col("seconds") * pl.col("entities")).sum().cast(MONEY), total).alias(
            "mean_seconds"
        ),
    )


def broken_rules(
    rows: pl.DataFrame, partials: Mapping[str, pl.DataFrame], facts: Facts
) -> dict[str, int]:
    """How many rows of metrics_funnels break a rule between rows."""
    within = METRICS_FUNNELS.key[:-1]
    ordered = rows.sort(METRICS_FUNNELS.key)
    summed = ("entities", "open_entities")
    is_overall = pl.col("breakdown") == OVERALL
    by_step = ("funnel", "step_number")
    of_values = (
        rows.filter(~is_overall).group_by(*by_step, "breakdown").agg(pl.col(summed).sum())
    ).join(rows.filter(is_overall).select(*by_step, *summed), on=by_step, suffix="_overall")
    viewed = partials[SESSION_FUNNEL.name]["sessions_reached_view"].sum()
    begun = rows.filter(
        is_overall,
        pl.col("step_number") == 1,
        pl.col("funnel").is_in(
            [each.name for each in facts.rules.funnels if each.begins_with_a_view]
        ),
    )
    return {
        "steps_nest": ordered.filter(
            pl.any_horizontal(
                pl.col(name) > pl.col(name).shift().over(within) for name in ("entities", "users")
            )
        ).height,
        "values_add_up_to_overall": of_values.filter(
            pl.any_horizontal(pl.col(name) != pl.col(f"{name}_overall") for name in summed)
        ).height,
        "first_step_is_sessions_with_a_view": begun.filter(pl.col("entities") != viewed).height,
    }


METRIC: Final = Metric(
    METRICS_FUNNELS, (_LEVELS, _WAITS, _USERS, SESSION_FUNNEL), metrics_funnels, broken_rules
)
