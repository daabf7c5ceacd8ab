"""Payloads that somebody forged or that fuzzing found, each with its one right outcome.

`corpus/` has a file for each, named by what is wrong with it: one bundle as it comes off the road.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from edge_agent.core import probe
from edge_agent.core.wire import Need, WireError, armour, bounds, documents, schema
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.core.wire.envelope import Envelope, Kind
from tests.wire import second_bytes, second_decoder
from tests.wire.made import codecs
from tests.wire.test_hostile import first

CORPUS = Path(__file__).parent / "corpus"
MAX_MB = 64
# Of each envelope of the bundle: "values", "error", or why there is a need; or one word for all.
OUTCOMES: dict[str, str | list[str]] = {
    "dict_id_in_frame": ["error"],
    "document_1MiB": ["error"],
    "document_deep": ["error"],
    "document_depth_64": ["values"],
    "document_depth_65": ["error"],
    "document_no_object": ["error"],
    "document_no_utf8": ["error"],
    "double_minus_inf": ["error"],
    "doubles_inf": ["error"],
    "ext_seal": ["version"],
    "first_and_count_reach_2e40": "error",
    "good_flags_version": ["values", "version", "version"],
    "good_then_bad_check": "error",
    "good_then_bad_body": ["values", "error"],  # a bad body costs its own envelope
    "group_of_minus_zero": ["error"],
    "group_of_tracks": ["values"],
    "group_table2": ["error"],
    "kind_1_0": ["version"],
    "kind_9": ["version"],
    "last_seq_of_all": ["values"],
    "nan_score": ["error"],
    "one_million_empty_rings": ["error"],
    "one_record_137MB": ["error"],
    "optional_nan": ["error"],
    "packed_bytes": ["error"],
    "packed_deep": ["error"],
    "packed_map": ["error"],
    "packed_nan": ["error"],
    "packed_true": ["error"],
    "patch_nan": ["error"],
    "patched_row_of_23_places": ["error"],
    "poison_2GB": ["error"],
    "probe_1e999": ["error"],
    "probe_5000_digits": ["error"],
    "probe_deep": ["error"],
    "probe_good": ["values"],
    "probe_next_before_floor": ["error"],
    "reason_twice": ["error"],
    "seq_2e40": "error",  # no envelope has such a seq: nothing of the bundle is used
    "synchronised_2": ["error"],
    "text_in_all_rows": ["error"],
    "unknown_field_nan": ["error"],
    "window_8MiB": ["error"],
}


def outcomes_of(payload: bytes) -> str | list[str]:
    try:
        contents = armour.unpack(payload).contents
    except WireError:
        return "error"
    return [_outcome(content) for content in contents]


def _outcome(content: Envelope | Need) -> str:
    if isinstance(content, Need):
        return content.why
    try:
        if content.kind is Kind.DOCUMENT:
            found = documents.Receiver().decode(content, codecs())
            documents.check(found) if isinstance(found, bytes) else None
        elif content.kind is Kind.PROBE:
            probe.decode(content, codecs())
        else:
            outcome = first(content)
            return outcome if isinstance(outcome, str) else "values"
    except WireError:
        return "error"
    return "values"


def second_outcomes_of(payload: bytes) -> str | list[str]:
    """The same of the other decoder."""
    try:
        _, envelopes = second_bytes.open_bundle(payload)
    except second_bytes.Refused:
        return "error"
    return [_second_outcome(envelope) for envelope in envelopes]


def _second_outcome(envelope: second_bytes.Envelope | second_bytes.Wanting) -> str:
    if isinstance(envelope, second_bytes.Wanting):
        return envelope.why
    try:
        if envelope.kind == 2:
            second_decoder.open_document(envelope, [])
        else:
            second_decoder.open_records(envelope, [DICTIONARY_1])
    except second_bytes.Refused:
        return "error"
    except second_bytes.Wanting as wanting:
        return wanting.why
    return "values"


def test_each_payload_of_the_corpus_has_an_outcome() -> None:
    assert {path.stem for path in CORPUS.iterdir()} == set(OUTCOMES)


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_a_payload_of_the_corpus_ends_as_it_must_in_bounded_memory(name: str) -> None:
    payload = (CORPUS / f"{name}.txt").read_bytes().strip()
    codecs()  # what is made once is not the payload's
    tracemalloc.start()
    try:
        assert outcomes_of(payload) == OUTCOMES[name]
        assert tracemalloc.get_traced_memory()[1] < MAX_MB << 20
    finally:
        tracemalloc.stop()
    if not name.startswith("probe"):  # of which the page says no more than that
        assert second_outcomes_of(payload) == OUTCOMES[name]


def test_every_table_has_its_share_of_the_size() -> None:
    assert bounds.VALUES.keys() == schema.KNOWN.keys()
