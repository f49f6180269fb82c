"""Rows in which a word stands for NULL: `nan`, `null`, `none` or backslash N.

Each brand and category code is looked at once, sessions once for each name in a batch. Rows are
counted only where one of them is such a word.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from transforms.columnar.arrays import NO_CODE, codes, texts_of_codes
from transforms.columnar.kernels import Flags, Numbers
from transforms.columnar.product_codes import PRODUCT_CODE, columns_of, known_codes
from transforms.ingest.session_keys import SESSION_KEY
from transforms.schema import NULL_WORDS

_OF_PRODUCTS: Final = ("brand", "category_code")

_UNSEEN, _SOUND, _WORD = range(3)


def is_null_word(column: str) -> pl.Expr:
    """True where a text is such a word, in any case; NULL is none."""
    texts = pl.col(column).cast(pl.String).str.to_lowercase()
    return texts.is_in(NULL_WORDS).fill_null(value=False)


class NullWords:
    """Counts rows with such words; knows the product codes that it has looked at."""

    def __init__(self) -> None:
        self._flags = {name: np.empty(0, np.bool_) for name in _OF_PRODUCTS}
        self._words = np.empty(0, np.int8)  # what each text is, by its code

    def count(self, events: pl.DataFrame, names: pl.DataFrame) -> dict[str, int]:
        """The rows by column; columns without such a row are left out.

        Args:
            events: An event batch.
            names: The `SESSION_NAMES` of its sessions.
        """
        found = {
            column: int(np.count_nonzero(flags[events[PRODUCT_CODE].to_numpy()]))
            for column, flags in self._look().items()
            if flags.any()
        }
        words = names.filter(is_null_word("user_session"))
        if words.height:
            found["user_session"] = events.join(words, on=SESSION_KEY, how="semi").height
        return {column: rows for column, rows in found.items() if rows}

    def _look(self) -> dict[str, Flags]:
        """For each column: true for each known product code that has such a word there."""
        known = len(known_codes().product_id)
        seen = len(self._flags[_OF_PRODUCTS[0]])
        if known > seen:
            for texts in columns_of(np.arange(seen, known), _OF_PRODUCTS):
                flags = np.append(self._flags[texts.name], self._are_words(codes(texts)))
                self._flags[texts.name] = flags
        return self._flags

    def _are_words(self, numbers: Numbers) -> Flags:
        """True for each code of a text that is such a word; every text is looked at once."""
        known = numbers[numbers != NO_CODE]
        room = int(known.max(initial=0)) + 1 - len(self._words)
        self._words = np.append(self._words, np.zeros(max(room, 0), np.int8))
        # Not all codes up to the largest: another thread may be giving out some of them.
        new = np.unique(known[self._words[known] == _UNSEEN])
        if new.size:
            texts = texts_of_codes(pl.Series("text", new)).to_frame()
            is_word = texts.select(is_null_word("text"))["text"].to_numpy()
            self._words[new] = np.where(is_word, _WORD, _SOUND)
        flags = np.zeros(len(numbers), np.bool_)
        flags[numbers != NO_CODE] = self._words[known] == _WORD
        return flags


def products_of_second_null_word(brands: pl.DataFrame) -> int:
    """The number of products that are of several brands only because such a word counts as one.

    Args:
        brands: `product_id` and `brand` of the candidates of all shards, see `candidate_brands`.
    """
    is_word = is_null_word("brand")
    of_product = brands.group_by("product_id").agg(
        all=pl.col("brand").cast(pl.String).n_unique(),
        meant=pl.col("brand").filter(~is_word).cast(pl.String).n_unique(),
    )
    return of_product.filter((pl.col("all") > 1) & (pl.col("meant") <= 1)).height
