"""Product codes: what events say of a product, numbered once for a whole process.

An event batch holds the code of its product in place of the columns that tell it, as a
categorical column holds codes in place of texts. Numbers mean the same wherever this process uses
them; where a frame leaves the process it holds the columns (`portable`, `interned`).
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from transforms.columnar.arrays import (
    NO_CODE,
    NO_ID,
    codes,
    texts_of_codes,
    with_nulls,
    without_nulls,
)
from transforms.columnar.kernels import Flags, Integers, Numbers, Words
from transforms.columnar.key_index import Numbering, hash_keys, number_codes, with_room

PRODUCT_CODE = "product_code"

_TOKEN: Final = secrets.token_bytes(12)


def process_token() -> bytes:
    """What tells this process from every other, and so whose numbers and codes some are.

    Numbers of product codes and codes of categorical columns mean something else in each process, a
    forked one as well.
    """
    return _TOKEN + os.getpid().to_bytes(4)


PRODUCT_COLUMNS: Final = ("product_id", "category_id", "category_code", "brand")


class KnownCodes(NamedTuple):
    """All product codes that this process knows: an item for each number, from 0 on.

    Attributes:
        product_id: Ids.
        category_id: Ids, `NO_ID` for NULL.
        codes: A row of small numbers for the values of `PRODUCT_COLUMNS`, `NO_CODE` for NULL. Those
            of product_id and category_id are below the number of product codes.
        rooms: For each column of the codes a number above all of them.
        hashes: Of what the columns say, the same in any process.
    """

    product_id: Integers
    category_id: Integers
    codes: Numbers
    rooms: Integers
    hashes: Words


class _Dictionary:
    """Numbers product codes in the order in which any thread first asks for them.

    They are kept for as long as the process lives. A shop's catalogue fits on one worker.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbered = Numbering(len(PRODUCT_COLUMNS))
        self._products, self._categories = Numbering(1), Numbering(1)
        width = len(PRODUCT_COLUMNS)
        self._product_id, self._category_id = np.empty(0, np.int64), np.empty(0, np.int64)
        self._codes = np.empty((0, width), np.uint32)
        self._rooms = np.zeros(width, np.int64)
        self._hashes = np.empty(0, np.uint64)
        self._text_hashes = np.empty(0, np.uint64)
        self._publish()

    def number(
        self, product_id: Integers, category_id: Integers, category_code: Numbers, brand: Numbers
    ) -> Numbers:
        """The numbers of some rows' product codes: see `KnownCodes`."""
        with self._lock:
            numbers, first_rows = self._numbered.add(product_id, category_id, category_code, brand)
            if len(first_rows):
                self._append(
                    product_id[first_rows],
                    category_id[first_rows],
                    category_code[first_rows],
                    brand[first_rows],
                )
                self._publish()
        return numbers

    def _append(
        self, product_id: Integers, category_id: Integers, category_code: Numbers, brand: Numbers
    ) -> None:
        count = self._numbered.count
        self._product_id = with_room(self._product_id, count)
        self._category_id = with_room(self._category_id, count)
        self._codes = with_room(self._codes, count)
        products, _ = self._products.add(product_id)
        categories, _ = self._categories.add(category_id)
        categories[category_id == NO_ID] = NO_CODE
        codes = np.column_stack((products, categories, category_code, brand))
        self._hashes = with_room(self._hashes, count)
        added = slice(count - len(codes), count)
        self._hashes[added] = hash_keys(
            product_id, category_id, self._hashes_of(category_code), self._hashes_of(brand)
        )
        self._product_id[added], self._category_id[added] = product_id, category_id
        self._codes[added] = codes
        for column, of_column in enumerate(codes.T):
            largest = int(np.max(of_column, where=of_column != NO_CODE, initial=0))
            self._rooms[column] = max(self._rooms[column], largest + 1)

    def _hashes_of(self, text_codes: Numbers) -> Words:
        """Hashes of texts that are the same in any process; each text is hashed once."""
        told = np.unique(text_codes[text_codes != NO_CODE])
        if len(told) and told[-1] >= len(self._text_hashes):
            fresh = np.zeros(2 * int(told[-1]) + 1, np.uint64)
            fresh[: len(self._text_hashes)] = self._text_hashes
            self._text_hashes = fresh
        told = told[self._text_hashes[told] == 0]
        texts = texts_of_codes(pl.Series(told)).cast(pl.String)
        self._text_hashes[told] = [
            int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) | 1 for text in texts
        ]
        hashes = np.zeros(len(text_codes), np.uint64)
        is_told = text_codes != NO_CODE
        hashes[is_told] = self._text_hashes[text_codes[is_told]]
        return hashes

    def _publish(self) -> None:
        """Show what is known; who has asked before keeps what was known then."""
        count = self._numbered.count
        self.known = KnownCodes(
            self._product_id[:count],
            self._category_id[:count],
            self._codes[:count],
            self._rooms.copy(),
            self._hashes[:count],
        )


_DICTIONARY: Final = _Dictionary()


number_products = _DICTIONARY.number


def known_codes() -> KnownCodes:
    """All product codes that this process knows by now; arrays not to be changed."""
    return _DICTIONARY.known


def code_hashes() -> Words:
    """For each known product code a hash of its columns, the same in any process."""
    return known_codes().hashes


def columns_of(
    product_codes: Integers | Numbers, names: Sequence[str] = PRODUCT_COLUMNS
) -> pl.DataFrame:
    """The `PRODUCT_COLUMNS` of product codes, or some of them."""
    return pl.DataFrame([_column_of(name, product_codes) for name in names])


def _column_of(name: str, product_codes: Integers | Numbers) -> pl.Series:
    known = known_codes()
    if name == "product_id":
        return pl.Series(name, known.product_id[product_codes])
    if name == "category_id":
        return with_nulls(known.category_id[product_codes], NO_ID).alias(name)
    texts = known.codes[product_codes, PRODUCT_COLUMNS.index(name)]
    return texts_of_codes(with_nulls(texts, NO_CODE)).alias(name)


class EncodedColumn(NamedTuple):
    """A dictionary-encoded column.

    Attributes:
        numbers: The row of each value in the texts, −1 for NULL.
        texts: The values as text (String), each once.
    """

    numbers: npt.NDArray[np.int32]
    texts: pl.Series


def encoded_columns(product_codes: Numbers) -> dict[str, EncodedColumn]:
    """The `PRODUCT_COLUMNS` of rows, by name."""
    known = known_codes()
    found = number_codes(product_codes, known.codes, known.rooms)
    return {
        name: EncodedColumn(numbers, _column_of(name, firsts).cast(pl.String))
        for name, (numbers, firsts) in zip(PRODUCT_COLUMNS, found, strict=True)
    }


def with_products(events: pl.DataFrame) -> pl.DataFrame:
    """Rows of event batches with the `PRODUCT_COLUMNS` beside their own."""
    return events.hstack(columns_of(events[PRODUCT_CODE].to_numpy()))


def with_product_codes(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with their product codes, in the last column, in place of the `PRODUCT_COLUMNS`."""
    product, category, code, brand = rows[list(PRODUCT_COLUMNS)]
    numbers = number_products(
        product.to_numpy(), without_nulls(category, NO_ID), codes(code), codes(brand)
    )
    return rows.drop(PRODUCT_COLUMNS).with_columns(pl.Series(PRODUCT_CODE, numbers))


_PORTABLE: Final = {name: f"{PRODUCT_CODE}.{name}" for name in PRODUCT_COLUMNS}


def portable(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame as other processes understand it: product codes, if any, told by columns."""
    if PRODUCT_CODE not in frame.columns:
        return frame
    return with_products(frame).drop(PRODUCT_CODE).rename(_PORTABLE)


def interned(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame that `portable` was given, here or elsewhere, product codes in the last column."""
    if not set(_PORTABLE.values()) <= set(frame.columns):
        return frame
    return with_product_codes(frame.rename({told: name for name, told in _PORTABLE.items()}))


class ProductFlags:
    """Tells which product codes are of some products.

    Attributes:
        products: Their ids.
    """

    def __init__(self, products: pl.Series) -> None:
        """Choose the products.

        Args:
            products: Their ids (Int64).
        """
        self.products = products
        self._flags = np.empty(0, np.bool_)

    def known(self) -> Flags:
        """True for each known product code that is of one of the products."""
        missing = known_codes().product_id[len(self._flags) :]
        if len(missing):
            self._flags = np.append(self._flags, np.isin(missing, self.products))
        return self._flags
