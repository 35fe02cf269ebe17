"""Vectors as a provider gives them."""

from __future__ import annotations

from base64 import b64encode
from struct import pack

import pytest

from workbench.controls.embedding import _vectors


def test_vectors_stand_in_the_order_of_their_texts_whatever_their_form():
    data = [{"index": 1, "embedding": [0.5, 2]}, {"index": 0, "embedding": b64encode(pack("<2f", 1.0, -1.0)).decode()}]
    assert _vectors({"data": data}, 2) == ((1.0, -1.0), (0.5, 2.0))


@pytest.mark.parametrize("embedding", ["AAAA", "?", None, {}, ["x"], [None], []])
def test_what_is_no_vector_is_none(embedding):
    assert _vectors({"data": [{"index": 0, "embedding": embedding}]}, 1) == ()
    assert _vectors({"data": [{"index": 1, "embedding": [1.0]}]}, 1) == ()
