"""Any network may replace any network, as long as its results mean the same."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.core.agreement import agreement
from edge_agent.core.contract import check_contract
from edge_agent.core.errors import Rejected
from edge_agent.core.frames import Label, Object
from tests.backends.graphs import head, manifest

LIVE = manifest(head("boxes", "b", "s", "c", keys="ab"))


@pytest.mark.parametrize(
    ("heads", "word"),
    [
        ([head("boxes", "b", "s", "c", keys="a")], "labels"),
        ([head("boxes", "b", "s", "c", keys="abc")], "labels"),
        ([head("boxes", "b", "s", "c", keys="ab", task="segmentation")], "task"),
        ([head("boxes", "b", "s", "c", keys="ab", name="other")], "heads"),
        ([head("boxes", "b", "s", "c", keys="ab"), head("probs", "p", name="more")], "heads"),
    ],
)
def test_what_results_mean_does_not_change_silently(heads: list[dict[str, Any]], word: str) -> None:
    with pytest.raises(Rejected, match=word) as refused:
        check_contract(LIVE, manifest(*heads))
    assert refused.value.hint


def test_another_network_with_the_same_meaning_is_welcome() -> None:
    other = head("detr", "logits", "boxes", labels=[{"id": 4, "key": "b"}, {"id": 9, "key": "a"}])
    size = {"size": [64, 64], "channels": 3, "order": "rgb"}
    states = [{"input": "s", "output": "t"}]
    check_contract(LIVE, manifest(other, input=size, states=states, latency_budget_ms=3.0))


def test_another_name_is_another_model() -> None:
    with pytest.raises(Rejected, match="same name"):
        check_contract(LIVE, manifest(head("boxes", "b", "s", "c", keys="ab"), name="other"))


def test_classifications_agree_by_their_best_label() -> None:
    def labels(*keys: str) -> tuple[Label, ...]:
        return tuple(Label(head="h", label=key, score=0.9) for key in keys)

    box = Object(id=1, track=0, head="d", label="x", score=0.9, box=(0.0, 0.0, 9.0, 9.0))
    assert agreement((), ()) == 1.0
    assert agreement((), (), labels("a", "b"), labels("a", "c")) == 1.0
    assert agreement((), (), labels("a"), labels("b", "a")) == 0.0
    assert agreement((box,), (box,), labels("a"), labels("b")) == 0.5
    assert agreement((box,), (), labels("a"), labels("a")) == pytest.approx(2 / 3)
