"""All that is made of the events of a session shard."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import polars as pl

from transforms.analytics.catalogue import ProductSums
from transforms.analytics.category_exposures import purchases, touches
from transforms.analytics.cleaning import clean
from transforms.analytics.metrics.funnel import session_funnel
from transforms.analytics.metrics.periods import event_days
from transforms.analytics.sessions import event_table, session_table, sessionize
from transforms.analytics.users import session_terms, user_days
from transforms.audit.balance import counted
from transforms.columnar.product_codes import VARIANT, ProductFlags, encoded_columns
from transforms.ingest.batch import EVENT_BATCH
from transforms.ingest.session_keys import SESSION_NAMES
from transforms.schema import TableBatch

Frames = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class SuspectProducts:
    """Products that a session shard must treat in a way of their own.

    Attributes:
        multi_brand: Those of several brands, whose events are dropped.
        many_categories: Those that occur with several category_ids.
    """

    multi_brand: ProductFlags
    many_categories: ProductFlags


BY_USER: Final = ("user_days", "user_sessions")


TOUCHES_BY_USER: Final = ("touches", "purchases")


PRODUCT_SUMS: Final = "product_sums"


PARTIALS_OF_SESSIONS: Final = ("session_funnel", "event_days", "counts")


def session_shard_frames(
    events: pl.DataFrame,
    names: pl.DataFrame,
    suspects: SuspectProducts,
    product_sums: ProductSums,
    *,
    timeout_seconds: int,
    shard: int,
) -> tuple[list[TableBatch], Frames]:
    """All that is made of the events of a session shard.

    Args:
        events: All event batches of the shard.
        names: The names of its sessions that their keys do not tell.
        suspects: Products to treat in a way of their own.
        product_sums: Takes in the kept events.
        timeout_seconds: Gap beyond which the next session starts.
        shard: Its number.

    Returns:
        The rows of fct_events and fct_sessions; and the frames named in `BY_USER`,
        `TOUCHES_BY_USER` and `PARTIALS_OF_SESSIONS`.
    """
    cleaned = clean(events, names, suspects.multi_brand)
    kept = cleaned.events
    product_sums.add(kept)
    described = encoded_columns(kept[VARIANT].to_numpy())
    cut = sessionize(cleaned, described["product_id"], timeout_seconds)
    frames = {
        "user_days": user_days(cut.visits),
        # Few users have two sessions in a shard, so nothing is summed up yet.
        "user_sessions": session_terms(cut.sessions.with_columns(user_id="user"), "user_id"),
        "touches": touches(kept, suspects.many_categories, shard),
        "purchases": purchases(kept),
        "session_funnel": session_funnel(cut.sessions),
        "event_days": event_days(cut.visits),
        "counts": counted(
            {
                "events_kept": kept.height,
                "duplicate": cleaned.duplicate,
                "multi_brand_product": cleaned.multi_brand_product,
                "missing_session": cleaned.missing_session,
            }
        ),
    }
    return [event_table(cut, described), session_table(cut)], frames


@functools.cache
def empty_session_frames() -> Frames:
    """The frames of a session shard without events; made once, not to be changed."""
    none = ProductFlags(pl.Series("product_id", [], pl.Int64))
    _, frames = session_shard_frames(
        EVENT_BATCH.to_frame(),
        SESSION_NAMES.to_frame(),
        SuspectProducts(none, none),
        ProductSums(),
        timeout_seconds=0,
        shard=0,
    )
    return frames | {PRODUCT_SUMS: ProductSums().frame()}
