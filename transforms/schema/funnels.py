"""The table of funnels of a shop's own."""

from __future__ import annotations

import polars as pl

from transforms.schema.types import (
    FLOAT64,
    INT64,
    NUMERIC,
    STRING,
    Column,
    RowCheck,
    Table,
    count,
    rate,
    required,
)


def _share(name: str, description: str) -> Column:
    return Column(name, FLOAT64, description, minimum=0)


METRICS_FUNNELS = Table(
    name="metrics_funnels",
    group="selling",
    grain="one row per funnel, value of one of its breakdowns, and step",
    key=("funnel", "breakdown", "value", "step_number"),
    columns=(
        required("funnel", STRING, "Name of the funnel, in --config; shop and product without."),
        required("breakdown", STRING, "overall, or one of the funnel's breakdowns."),
        required(
            "value",
            STRING,
            "Value of the event that begins the attempt, of its session, or of the user as of the "
            "end of the data: all for overall; (none) for NULL; (other) for all but the 1,000 "
            "values with most entities, of equal ones the smaller text.",
        ),
        required("step_number", INT64, "Number of the step, from 1.", minimum=1),
        required(
            "step_name", STRING, "Name of the step; of an unordered funnel any number of them."
        ),
        count(
            "entities",
            "Sessions or users, or those and held values, that got to this step or further.",
        ),
        count("users", "Distinct users of them; of a session that of fct_sessions."),
        count(
            "open_entities",
            "Those of them that are not through and may go on after as_of: the window of the "
            "attempt, or without one the session, may last beyond that day.",
        ),
        rate("conversion_from_start", "entities / entities of the first step."),
        rate(
            "conversion_from_previous",
            "entities / entities of the step before; NULL for the first step.",
        ),
        _share(
            "conversion_low",
            "Lower end of the 95 % interval of conversion_from_start by Wilson, six decimals.",
        ),
        _share("conversion_high", "Its upper end."),
        rate(
            "closed_conversion_from_start",
            "The same of entities that are not open: (entities − open_entities) of this step / of "
            "the first.",
        ),
        *(
            Column(
                f"{name}_seconds",
                INT64,
                f"{text} of the seconds to the step, when it was first reached, from the event "
                "that began that attempt.",
                minimum=0,
            )
            for name, text in (
                ("p25", "First quartile"),
                ("median", "Median"),
                ("p75", "Third quartile"),
                ("p90", "Ninetieth percentile"),
            )
        ),
        Column("mean_seconds", NUMERIC, "Their mean, two decimals.", minimum=0),
    ),
    row_checks=(
        RowCheck("users_have_entities", pl.col("users") > pl.col("entities")),
        RowCheck("open_entities_are_entities", pl.col("open_entities") > pl.col("entities")),
        RowCheck(
            "conversion_is_in_its_interval",
            (pl.col("conversion_low") > pl.col("conversion_from_start") + 1e-6)
            | (pl.col("conversion_high") < pl.col("conversion_from_start") - 1e-6),
        ),
        RowCheck(
            "seconds_ascend",
            (pl.col("p25_seconds") > pl.col("median_seconds"))
            | (pl.col("median_seconds") > pl.col("p75_seconds"))
            | (pl.col("p75_seconds") > pl.col("p90_seconds")),
        ),
    ),
)
