"""All tables of some rows, without Beam: for tests, for notebooks, and for who is new here.

What a run spreads over workers is done here by the same functions in the same order. Read it to
see how a table comes about; call it to try a rule:

>>> import datetime as dt
>>> from transforms.ingest.batch import ROWS
>>> from decimal import Decimal
>>> rows = pl.DataFrame(
...     {
...         "event_time": [dt.datetime(2019, 10, 1, tzinfo=dt.UTC)],
...         "event_type": ["purchase"],
...         "product_id": [1],
...         "category_id": [None],
...         "category_code": [None],
...         "brand": [None],
...         "price": [Decimal("9.99")],
...         "user_id": [7],
...         "user_session": ["s"],
...     },
...     schema=ROWS,
... )
>>> tables_in_memory(rows)["dim_users"].select("user_id", "purchase_count").rows()
[('7', 1)]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

import polars as pl

from transforms.analytics.calendar import calendar_of
from transforms.analytics.catalogue import (
    Catalogue,
    ProductSums,
    catalogue,
    category_codes,
    category_table,
    combine_products,
    product_table,
)
from transforms.analytics.cleaning import (
    ambiguous_products,
    candidate_brands,
    multi_brand_products,
)
from transforms.analytics.funnels import LEVELS, kept_values
from transforms.analytics.lifetime_value import clv_tables
from transforms.analytics.metrics.metric import Facts
from transforms.analytics.metrics.registry import finish_metrics
from transforms.analytics.product_pairs import (
    PRODUCT_BASKETS,
    PRODUCT_PAIRS,
    add_up_baskets,
    best_pairs,
    frequent_pairs,
    metrics_product_pairs,
)
from transforms.analytics.rfm import rank_brackets, rank_candidates, rank_samples, scoring
from transforms.analytics.session_shard import SuspectProducts, session_shard
from transforms.analytics.shard_keys import pair_shard_key, session_shard_key, user_shard_key
from transforms.analytics.user_shard import (
    Failures,
    RankedFacts,
    UserFacts,
    combine_shard,
    describe_shard,
    user_totals,
)
from transforms.columnar.product_codes import PRODUCT_CODE, ProductFlags, columns_of
from transforms.ingest.batch import event_batch, until
from transforms.rules import Rules
from transforms.schema import TABLES_BY_NAME, TableBatch, tables_without

Frames = dict[str, pl.DataFrame]


def tables_in_memory(
    rows: pl.DataFrame, rules: Rules | None = None, *, session_shards: int = 1, user_shards: int = 1
) -> Frames:
    """All tables but those about runs, by name.

    Args:
        rows: Accepted rows of the input, a `ROWS` frame, text already in lower case where the
            parser makes it so.
        rules: The options that decide values.
        session_shards: Shards of sessions; no number changes a table.
        user_shards: The same of users.

    Raises:
        AssertionError: A check between rows fails.
    """
    return tables_of_batch(
        *event_batch(rows),
        rules or Rules(),
        session_shards=session_shards,
        user_shards=user_shards,
    )


def tables_of_batch(
    batch: pl.DataFrame,
    names: pl.DataFrame,
    rules: Rules,
    *,
    session_shards: int = 1,
    user_shards: int = 1,
) -> Frames:
    """The same of an event batch and a `SESSION_NAMES` frame."""
    batch = until(batch, rules.as_of)
    suspects = _find_suspects(batch)
    product_sums = ProductSums()
    tables: dict[str, list[pl.DataFrame]] = defaultdict(list)
    by_user: dict[str, list[pl.DataFrame]] = defaultdict(list)
    partials: dict[str, list[pl.DataFrame]] = defaultdict(list)

    dates = []
    pairs, baskets = [PRODUCT_PAIRS.to_frame()], [PRODUCT_BASKETS.to_frame()]
    for shard, events in enumerate(_cut(batch, session_shard_key, session_shards)):
        made = session_shard(events, names, suspects, product_sums, rules=rules, shard=shard)
        for table in made.tables:
            tables[table[0]].append(_decoded(table))
        _append(by_user, made.by_user)
        _append(partials, made.partials)
        dates.append(made.dates)
        if made.baskets is not None:
            pairs.append(made.baskets.pairs)
            baskets.append(made.baskets.baskets)
    calendar = calendar_of(pl.concat(dates), rules.as_of)

    sums = product_sums.frame()
    found = catalogue(combine_products(sums), category_codes(sums))
    tables["dim_products"].append(product_table(found))
    tables["dim_categories"].append(category_table(found))

    purchases: list[pl.DataFrame] = []
    if calendar is not None:
        users = _tables_of_users(
            _cut_all(_joined(by_user), user_shards),
            UserFacts.of(rules, calendar),
            found,
            partials["funnel_levels"],
        )
        tables |= users.tables
        for name, frames in users.partials.items():
            partials[name] += frames
        purchases = users.purchases
    if rules.has_selling:
        counted = add_up_baskets(pl.concat(baskets))
        best = [
            frequent_pairs(shard, counted, rules.min_pair_baskets)
            for shard in _cut(pl.concat(pairs), pair_shard_key, user_shards)
        ]
        tables["metrics_product_pairs"] = [
            metrics_product_pairs(best_pairs(pl.concat(best)), counted)
        ]
    if rules.has_clv:
        as_of = rules.as_of if calendar is None else calendar.last
        _append(tables, clv_tables(purchases, as_of, rules.clv))
    for metric in finish_metrics(_joined(partials), Facts(found, calendar, rules)):
        require_no_failures({(metric.table.name, name): n for name, n in metric.failures.items()})
        tables[metric.table.name].append(metric.rows)
    return {
        table.name: pl.concat(
            [
                table.empty_frame(),
                *(rows.cast(table.polars_schema()) for rows in tables[table.name]),
            ]
        )
        for table in tables_without(rules.left_out)
        if not table.appended
    }


def require_no_failures(failures: Failures) -> None:
    """Raise an AssertionError that names the checks that fail."""
    broken = {check: rows for check, rows in failures.items() if rows}
    if broken:
        raise AssertionError(f"checks fail: {broken}")


class _Users(NamedTuple):
    """Tables, partial aggregates and purchases of the users of all shards."""

    tables: dict[str, list[pl.DataFrame]]
    partials: dict[str, list[pl.DataFrame]]
    purchases: list[pl.DataFrame]


def _tables_of_users(
    shards: list[Frames], facts: UserFacts, found: Catalogue, levels: list[pl.DataFrame]
) -> _Users:
    tables: dict[str, list[pl.DataFrame]] = defaultdict(list)
    partials: dict[str, list[pl.DataFrame]] = defaultdict(list)
    samples: dict[str, list[pl.DataFrame]] = defaultdict(list)
    candidates: dict[str, list[pl.DataFrame]] = defaultdict(list)
    combined = [combine_shard(frames, facts) for frames in shards]
    for shard in combined:
        _append(samples, rank_samples(shard.states) | {"totals": user_totals(shard.users)})
        _append(tables, shard.tables)
        _append(partials, shard.partials)
        require_no_failures(shard.failures)
    of_all = _joined(samples)
    brackets = rank_brackets(of_all)
    for shard in combined:
        _append(candidates, rank_candidates(shard.states, brackets))
    ranked = RankedFacts(
        facts,
        of_all["totals"]["first_purchase_date"].max(),  # type: ignore[arg-type] # a date
        scoring(of_all, brackets, _joined(candidates)),
        found,
        kept_values(pl.concat([LEVELS.to_frame(), *levels, *partials["funnel_levels"]])),
    )
    purchases = []
    for frames, shard in zip(shards, combined, strict=True):
        described = describe_shard(
            frames | {"users": shard.users, "days": shard.days} | shard.funnels, ranked
        )
        _append(tables, described.tables)
        _append(partials, described.partials)
        require_no_failures(described.failures)
        purchases.append(described.purchases)
    return _Users(tables, partials, purchases)


def _find_suspects(batch: pl.DataFrame) -> SuspectProducts:
    found = ambiguous_products(columns_of(batch[PRODUCT_CODE].unique().to_numpy()))
    many_brands = ProductFlags(found.filter("many_brands")["product_id"])
    brands = candidate_brands(batch.filter(many_brands.known()[batch[PRODUCT_CODE].to_numpy()]))
    return SuspectProducts(
        ProductFlags(multi_brand_products(brands)),
        ProductFlags(found.filter("many_categories")["product_id"]),
    )


def _decoded(batch: TableBatch) -> pl.DataFrame:
    """The rows of a table, its encoded columns as text."""
    name, frame, encoded = batch
    texts = [pl.Series(column, array, pl.String) for column, array in encoded.items()]
    return TABLES_BY_NAME[name].conform(frame.with_columns(texts))


def _append(lists: dict[str, list[pl.DataFrame]], frames: Mapping[str, pl.DataFrame]) -> None:
    for name, frame in frames.items():
        lists[name].append(frame)


def _joined(lists: Mapping[str, list[pl.DataFrame]]) -> Frames:
    return {name: pl.concat(frames) for name, frames in lists.items()}


def _cut(
    frame: pl.DataFrame, key: Callable[[pl.DataFrame], pl.Series], shards: int
) -> list[pl.DataFrame]:
    return [frame.filter(key(frame) % shards == shard) for shard in range(shards)]


def _cut_all(frames: Frames, shards: int) -> list[Frames]:
    """The frames of each user shard."""
    cut = {name: _cut(frame, user_shard_key, shards) for name, frame in frames.items()}
    return [{name: parts[shard] for name, parts in cut.items()} for shard in range(shards)]
