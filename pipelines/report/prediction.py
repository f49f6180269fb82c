"""Predicted purchases and revenue: whether to believe them, by a test on days not seen."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import polars as pl

from pipelines.report import charts, formatting, parts
from pipelines.report.models import (
    Card,
    Chart,
    Column,
    Control,
    Figure,
    Measure,
    Page,
    Row,
    Table,
    figure_with_choice,
)
from pipelines.report.outlook import outlook, outlook_cards
from transforms import schema

_TABLES = (
    "model_clv",
    "metrics_clv_validation",
    "metrics_clv_deciles",
    "metrics_clv_frequency",
    "metrics_clv_predictions",
)
_NAMES = {
    "bg_nbd": "BG/NBD",
    "mbg_nbd": "MBG/NBD",
    schema.CLV_BASELINE: "Past rate",
}
_OK = "ok"
_STATUSES = {
    "not_converged": "the fit found no maximum",
    "boundary": "the fit ran into the bounds of its parameters",
    "no_holdout": "the days of the data are too few for a test",
}
_PREDICTED = charts.Series("Predicted", "var(--series-0)")
_PAST_RATE = charts.Series("Past rate", "var(--series-5)")
_ACTUAL = charts.Series("Came", "var(--series-3)")
_CHART_HEIGHT = 260
_PURCHASES = Measure("purchases", "Purchases", "count")
_REVENUE = Measure("revenue", "Revenue", "money")


def prediction_page(tables: Mapping[str, pl.DataFrame]) -> Page | None:
    """Return the page, None where the run was told to predict nothing, or nobody bought.

    Where the selected model must not be used, the page says why and shows no predictions.
    """
    if not all(name in tables for name in _TABLES):
        return None
    models = tables["model_clv"]
    tested = parts.in_order(tables["metrics_clv_validation"], "model", list(_NAMES))
    if tested.is_empty() or not models["customers"].sum():
        return None
    selected = next(iter(tested.filter("selected").to_dicts()), None)
    refusal = _refusal(selected, tested, models)
    if selected is None or refusal:
        return Page("prediction", "Prediction", refusal, [], [_test(tested, None)])
    return Page(
        page_id="prediction",
        title="Prediction",
        lead=_lead(selected, models),
        cards=[*outlook_cards(tables["metrics_clv_predictions"]), *_cards(selected)],
        figures=[
            _test(tested, selected),
            outlook(tables["metrics_clv_predictions"], selected["model"]),
            _by_decile(tables["metrics_clv_deciles"], selected["model"], models),
            _by_frequency(tables["metrics_clv_frequency"], selected["model"], models),
        ],
    )


def _signed(bias: float) -> str:
    return formatting.signed(formatting.rate(abs(bias)), bias)


def _number(measure: Measure, value: formatting.type_number | None) -> str:
    """Return an amount as text; expected purchases are no whole number, but written as one."""
    return formatting.decimal(value, 0) if measure is _PURCHASES else formatting.compact(value)


# --- Whether there are predictions


def _refusal(row: Row | None, tested: pl.DataFrame, models: pl.DataFrame) -> str:
    """Say why there are no predictions; nothing where there are."""
    if row is None:
        why = "; ".join(
            f"{_NAMES[model]}: {_status(_fit(models, 'calibration', model))}"
            for model in schema.CLV_FREQUENCY_MODELS
        )
        return f"No predictions, as no model could be tested. {why}."
    name = _NAMES[row["model"]]
    if not row["passed"]:
        baseline = tested.row(by_predicate=pl.col("model") == schema.CLV_BASELINE, named=True)
        reasons = (row["reasons"] or "").split(", ")
        why = "; ".join(_failure(reason, row, baseline) for reason in reasons)
        return (
            f"No predictions: {name}, the better model, failed its test on {_days(row)}, which it "
            f"had not seen: {why}."
        )
    fit = _fit(models, "final", row["model"])
    if fit["status"] != _OK:
        return (
            f"No predictions: {name} passed its test, but cannot be fitted on all days: "
            f"{_status(fit)}."
        )
    return ""


def _fit(models: pl.DataFrame, fit: str, model: str) -> Row:
    return models.row(by_predicate=(pl.col("fit") == fit) & (pl.col("model") == model), named=True)


def _status(fit: Row) -> str:
    """Say in words why a fit must not be used."""
    if fit["status"] == "too_few_customers":
        number = formatting.count(fit["repeat_customers"])
        return f"too few customers have bought again to fit it ({number})"
    return _STATUSES[fit["status"]]


def _failure(reason: str, row: Row, baseline: Row) -> str:
    """Say in words what a model did not pass."""
    if reason == "bias":
        if row["bias"] is None:
            return "nobody bought in the test"
        return f"its total is off by more than the run allows ({_signed(row['bias'])})"
    if reason == "gini":
        if row["gini"] is None:
            return "all customers bought equally often, so that there is no order to predict"
        return "it ranks customers no better than chance"
    error = {"rmse": "root mean squared error", "mae": "mean absolute error"}[reason]
    return (
        f"its {error}, {formatting.decimal(row[reason], 4)}, is not below that of the past rate, "
        f"{formatting.decimal(baseline[reason], 4)}"
    )


def _days(row: Row) -> str:
    return formatting.day_range(row["calibration_end"] + timedelta(days=1), row["holdout_end"])


def _lead(row: Row, models: pl.DataFrame) -> str:
    sentence = (
        f"{_NAMES[row['model']]} passed its test on {_days(row)}, which it had not seen: of "
        f"{formatting.plural(row['customers'], 'customer')}, "
        f"{_number(_PURCHASES, row['predicted_purchases'])} purchases were expected and "
        f"{formatting.count(row['actual_purchases'])} came ({_signed(row['bias'])}). A purchase is "
        "a day on which a customer bought."
    )
    fit = _fit(models, "final", schema.CLV_SPEND_MODEL)
    if fit["status"] != _OK:
        sentence += f" What a purchase will bring is not predicted: {_status(fit)}."
    return sentence


def _cards(row: Row) -> list[Card]:
    """Return what was expected of the test, and what came."""
    days = formatting.plural(row["holdout_days"], "day")
    low, high = (_number(_PURCHASES, row[name]) for name in ("total_low", "total_high"))
    expected = round(row["predicted_purchases"])
    measures = (
        Measure("predicted_purchases", "Expected purchases", "count", f"{low} to {high} (95%)"),
        Measure("actual_purchases", "Purchases that came", "count", f"in {days} of test"),
        Measure("predicted_revenue", "Expected revenue", "money", _note(row["revenue_bias"])),
        Measure("actual_revenue", "Revenue that came", "money", f"in {days} of test"),
    )
    shown = row | {"predicted_purchases": expected}
    return [parts.card(measure, shown[measure.field]) for measure in measures]


def _note(bias: float | None) -> str:
    return "" if bias is None else f"{_signed(bias)} against what came"


# --- The test


def _test(tested: pl.DataFrame, passed: Row | None) -> Figure:
    """Return the errors of every model; what it predicted only of models that passed."""
    amounts = [
        Column("predicted_purchases", "Purchases predicted", "average"),
        Column("total_low", "At least (95%)", "average"),
        Column("total_high", "At most (95%)", "average"),
        Column("actual_purchases", "Purchases that came", "count"),
        Column("predicted_revenue", "Revenue predicted", "money"),
        Column("actual_revenue", "Revenue that came", "money"),
        Column("revenue_bias", "Revenue bias", "rate"),
    ]
    columns = [
        Column("name", "Model", "text"),
        Column("customers", "Customers", "count"),
        *(amounts if passed else []),
        Column("bias", "Bias", "rate"),
        Column("rmse", "RMSE", "average"),
        Column("mae", "Mean error", "average"),
        Column("gini", "Gini", "average"),
        Column("selected", "Selected", "flag"),
        Column("reasons", "What failed", "text"),
    ]
    named = _named(tested)
    rows = named.to_dicts()
    return Figure(
        "prediction-test",
        "Whether to believe it",
        "Models were fitted on the days before the test, and predicted its purchases customer by "
        "customer. The past rate is the plain rule that everybody goes on as before.",
        [_bias_chart(rows), _error_chart(rows)],
        layout=2,
        table=Table(
            "metrics_clv_validation",
            "The test by model",
            columns,
            named.select(column.name for column in columns),
        ),
        details=[] if passed is None else _expected(passed),
    )


def _named(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("model").replace_strict(_NAMES).alias("name"))


def _bias_chart(rows: Sequence[Row]) -> Chart:
    known = [row for row in rows if row["bias"] is not None]
    told = ", ".join(f"{row['name']} {_signed(row['bias'])}" for row in known)
    return Chart(
        "prediction-bias",
        "Bias of the total",
        f"Purchases predicted in total, against those that came: {told}."
        if known
        else "There is no test to tell of.",
        charts.bars("Bias of the total", charts.LABEL_WIDTH),
        [
            charts.bar_row(
                row["name"], abs(row["bias"]), _signed(row["bias"]), is_marked=row["selected"]
            )
            for row in known
        ],
    )


def _error_chart(rows: Sequence[Row]) -> Chart:
    measure = Measure("rmse", "Error by customer (root mean squared)", "average")
    known = [row | {"label": row["name"]} for row in rows if row["rmse"] is not None]
    selected = next((row for row in known if row["selected"]), None)
    baseline = next((row for row in known if row["model"] == schema.CLV_BASELINE), None)
    sentence = "There is no test to tell of."
    if known:
        sentence = f"Purchases off: {_listed(known)}."
    if selected and baseline:
        change = formatting.relative_change(selected["rmse"], baseline["rmse"])
        if change is not None:
            sentence += f" {selected['name']} against the past rate: {change}."
    return parts.bar_chart(
        "prediction-error",
        measure,
        known,
        sentence=sentence,
        marked=selected["label"] if selected else None,
    )


def _listed(rows: Sequence[Row]) -> str:
    return ", ".join(f"{row['name']} {formatting.decimal(row['rmse'])}" for row in rows)


def _expected(row: Row) -> list[tuple[str, str]]:
    """Return what was expected of the test with its interval, and what came."""
    low, high, came = row["total_low"], row["total_high"], row["actual_purchases"]
    purchases = f"{_number(_PURCHASES, row['predicted_purchases'])} expected"
    if low is not None and high is not None:
        where = "below that" if came < low else "above that" if came > high else "within that"
        purchases += (
            f", {_number(_PURCHASES, low)} to {_number(_PURCHASES, high)} by what the parameters "
            f"leave open (95%); {formatting.count(came)} came, {where}"
        )
    revenue = "not predicted: there is no model of what a purchase brings"
    if row["predicted_revenue"] is not None:
        revenue = (
            f"{formatting.decimal(row['predicted_revenue'])} expected, "
            f"{formatting.decimal(row['actual_revenue'])} came"
        )
        if row["revenue_bias"] is not None:
            revenue += f" ({_signed(row['revenue_bias'])})"
    return [("Purchases of the test", purchases), ("Revenue of the test", revenue)]


# --- By groups of customers


def _comparison(key: Column) -> list[Column]:
    return [
        Column("name", "Model", "text"),
        key,
        Column("customers", "Customers", "count"),
        Column("predicted_purchases", "Purchases predicted", "average"),
        Column("actual_purchases", "Purchases that came", "count"),
        Column("predicted_revenue", "Revenue predicted", "money"),
        Column("actual_revenue", "Revenue that came", "money"),
        Column("lift", "Lift", "average"),
    ]


def _of(frame: pl.DataFrame, model: str, key: str) -> list[Row]:
    return frame.filter(pl.col("model") == model).sort(key).to_dicts()


def _shown(frame: pl.DataFrame, selected: str, key: str) -> pl.DataFrame:
    """Return the rows of the selected model and of the past rate, in order."""
    models = (selected, schema.CLV_BASELINE)
    own = frame.filter(pl.col("model").is_in(models)).sort(key)
    return _named(parts.in_order(own, "model", models))


def _furthest(measure: Measure, rows: Sequence[Row]) -> str:
    """Say which group's sum is furthest off; earlier rows win ties."""
    predicted, actual = f"predicted_{measure.field}", f"actual_{measure.field}"
    row = max(rows, key=lambda row: abs(float(row[predicted]) - float(row[actual])))
    return (
        f"Furthest off: {row['name']}, {_number(measure, row[predicted])} predicted, "
        f"{_number(measure, row[actual])} came."
    )


def _no_value(models: pl.DataFrame) -> str:
    """Say why no revenue was predicted in the test."""
    fit = _fit(models, "calibration", schema.CLV_SPEND_MODEL)
    return f"Not predicted: {_status(fit)}."


def _by_decile(deciles: pl.DataFrame, selected: str, models: pl.DataFrame) -> Figure:
    shown = _shown(deciles, selected, "decile")
    return figure_with_choice(
        {
            model: Figure(
                "prediction-deciles",
                "Predicted and actual, by decile",
                "Customers in tenths by predicted revenue, 1 the tenth with most. They are ranked "
                "well where what came falls from left to right.",
                [
                    _decile_chart(measure, _of(deciles, model, "decile"), models)
                    for measure in (_PURCHASES, _REVENUE)
                ],
                layout=2,
                table=Table(
                    "metrics_clv_deciles",
                    "The test by decile",
                    _comparison(Column("decile", "Decile", "count")),
                    shown,
                    groups=shown["model"].to_list(),
                ),
            )
            for model in (selected, schema.CLV_BASELINE)
        },
        Control(
            "Predicted by",
            [(model, _NAMES[model]) for model in (selected, schema.CLV_BASELINE)],
        ),
    )


def _decile_chart(measure: Measure, rows: Sequence[Row], models: pl.DataFrame) -> Chart:
    predicted, actual = f"predicted_{measure.field}", f"actual_{measure.field}"
    known = [
        row | {"label": str(row["decile"]), "name": f"decile {row['decile']}"}
        for row in rows
        if row[predicted] is not None
    ]
    if not known:
        sentence = _no_value(models)
    else:
        first = known[0]
        share = {
            name: formatting.rate(parts.divided(first[name], sum(row[name] for row in known)))
            for name in ("customers", predicted, actual)
        }
        sentence = (
            f"Decile 1, {formatting.plural(first['customers'], 'customer')} "
            f"({share['customers']} of all): {share[predicted]} of the {measure.field} predicted, "
            f"{share[actual]} of what came. {_furthest(measure, known)}"
        )
    return Chart(
        f"deciles-{measure.field}",
        measure.title,
        sentence,
        charts.grouped_columns((_PREDICTED, _ACTUAL), "Decile", measure.kind, _CHART_HEIGHT),
        [
            charts.series_row(
                row["label"],
                f"Decile {row['label']}: {formatting.plural(row['customers'], 'customer')}",
                [row[predicted], row[actual]],
                [_number(measure, row[predicted]), _number(measure, row[actual])],
            )
            for row in known
        ],
    )


def _by_frequency(frequency: pl.DataFrame, selected: str, models: pl.DataFrame) -> Figure:
    baseline = _of(frequency, schema.CLV_BASELINE, "frequency")
    rows = _of(frequency, selected, "frequency")
    return Figure(
        "prediction-frequency",
        "Predicted and actual, by past purchases",
        "Customers by their purchases after the first one, before the test.",
        [_frequency_chart(measure, rows, baseline, models) for measure in (_PURCHASES, _REVENUE)],
        layout=2,
        table=Table(
            "metrics_clv_frequency",
            "The test by past purchases",
            _comparison(Column("frequency", "Repeat purchases", "count")),
            _shown(frequency, selected, "frequency"),
        ),
    )


def _frequency_chart(
    measure: Measure, rows: Sequence[Row], baseline: Sequence[Row], models: pl.DataFrame
) -> Chart:
    predicted, actual = f"predicted_{measure.field}", f"actual_{measure.field}"
    by_past_rate = {row["frequency"]: row[predicted] for row in baseline}
    known = [
        row
        | {
            "label": (label := _past(row["frequency"])),
            "name": f"customers with {label} repeat purchase{'s' * (label != '1')}",
            "past_rate": by_past_rate.get(row["frequency"]),
        }
        for row in rows
        if row[predicted] is not None
    ]
    if not known:
        sentence = _no_value(models)
    else:
        compared = [row for row in known if row["past_rate"] is not None]
        closer = sum(
            abs(float(row[predicted]) - float(row[actual]))
            < abs(float(row["past_rate"]) - float(row[actual]))
            for row in compared
        )
        sentence = (
            f"Closer than the past rate in {closer} of "
            f"{formatting.plural(len(compared), 'group')}. "
            f"{_furthest(measure, known)}"
        )
    return Chart(
        f"frequency-{measure.field}",
        measure.title,
        sentence,
        charts.grouped_columns(
            (_PREDICTED, _PAST_RATE, _ACTUAL), "Repeat purchases", measure.kind, _CHART_HEIGHT
        ),
        [
            charts.series_row(
                row["label"],
                f"{formatting.plural(row['customers'], 'customer')} with {row['label']}",
                values := [row[predicted], row["past_rate"], row[actual]],
                [_number(measure, value) for value in values],
            )
            for row in known
        ],
    )


def _past(frequency: int) -> str:
    return f"{frequency}+" if frequency == schema.CLV_MOST_FREQUENT else str(frequency)
