"""The customer analytics pipeline: CSV clickstream in, audited and published warehouse out."""

from __future__ import annotations

from pipelines import console

if __name__ == "__main__":
    # Before Beam is imported, for which --help need not wait. The graph is imported later, by its
    # importable name, so that workers find what is pickled by reference.
    console.command()

from collections.abc import Mapping, Sequence

import apache_beam as beam
import polars as pl

from transforms.analytics.shard_keys import session_shard_key
from transforms.shuffle.partition import GroupFrames
from transforms.steps.catalogue import BuildCatalogue
from transforms.steps.metrics import AddPartials, BuildMetrics
from transforms.steps.parse import Parse
from transforms.steps.plan import Plan
from transforms.steps.product_pairs import BuildProductPairs
from transforms.steps.publish import Publish
from transforms.steps.sessions import ProcessSessions
from transforms.steps.suspects import FindSuspects
from transforms.steps.users import BuildUsers


def build_pipeline(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Build the graph: two shuffles, of the events by session and of what they add up to.

    And a small one, of pairs of products.
    """
    parsed = pipeline | "Parse" >> Parse(plan)
    by_session = parsed.events | "ShuffleEvents" >> GroupFrames(
        plan.session_levels,
        dict.fromkeys(("events", "session_names"), session_shard_key),
        plan.store,
        with_empty=True,
    )
    suspects = parsed.events | "FindSuspects" >> FindSuspects(plan, by_session)
    sessions = by_session | "Sessions" >> ProcessSessions(plan, suspects, parsed.few_rejected)
    catalogue = sessions.products | "Catalogue" >> BuildCatalogue(plan)
    users = sessions.by_user | "Users" >> BuildUsers(
        plan, sessions.dates, sessions.exposures, catalogue.payloads, sessions.partials
    )
    partials = (
        (sessions.partials, users.partials)
        | "AllPartials" >> beam.Flatten()
        | "AddPartials" >> AddPartials(plan)
    )
    metrics = pipeline | "Metrics" >> BuildMetrics(
        plan, partials, catalogue.payloads, sessions.dates
    )
    tables = {
        "RejectedRows": parsed.rejected,
        "Sessions": sessions.tables,
        "Catalogue": catalogue.tables,
        "UserDays": users.day_tables,
        "Users": users.tables,
        "Metrics": metrics.tables,
    }
    if plan.run.rules.has_selling:
        tables["ProductPairs"] = sessions.pairs | "ProductPairs" >> BuildProductPairs(
            plan, sessions.baskets
        )
    if plan.run.rules.has_clv:
        # The libraries of its models are slow to import, so only here.
        from transforms.steps.lifetime_value import PredictLifetimeValue  # noqa: PLC0415

        value = users.purchases | "LifetimeValue" >> PredictLifetimeValue(plan, sessions.dates)
        tables |= {"LifetimeValue": value.tables, "Predictions": value.predictions}
    _ = pipeline | "Publish" >> Publish(
        plan,
        tables,
        audits=(parsed.counts, suspects.brands, partials),
        reports=(metrics.checks,),
        dates=sessions.dates,
        render_report=render_report,
    )


def render_report(tables: Mapping[str, pl.DataFrame]) -> str:
    """The analyst's report as HTML; its libraries are slow to import, so only here."""
    from pipelines import report  # noqa: PLC0415

    return report.render_report(tables)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline from the command line; the exit code is as --help says."""
    return console.main(arguments)
