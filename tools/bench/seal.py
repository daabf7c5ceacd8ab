"""What it costs to seal and to sign the road: `.venv/bin/python tools/bench/seal.py [--quick]`.

Bytes and microseconds (of CPU, in one thread) of an envelope of 1, 30 and 300 results (calibrated
detections, the series of `delta.py`), and of an acknowledgement of 8 logs. `..._seal_us` and
`..._sign_us` are the sender's, `..._verify_us` and `..._open_us` the receiver's; the encoding of
the records is printed beside them (`..._encode_us`), because that is what they add to. `..._share`
is the armoured payload sealed and signed over the same unprotected. `floor_...` are the primitives.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_agent.core import edgecore, signed
from edge_agent.core.frames import RecordClass
from edge_agent.core.wire import armour, envelope, records, sealing
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.core.wire.envelope import Envelope
from edge_agent.core.wire.sealing import Protection
from edge_agent.links.road_keys import RoadOpener, RoadSealer, RoadSigner, RoadVerifier
from tools.bench.common import Scale, arguments, figure, load, median, spread
from tools.record_series import Scene, Series

BENCH: Final = "seal"
FULL = Scale(seconds=0.5, rounds=9)
QUICK = Scale(seconds=0.05, rounds=3)
SIZES: Final = (1, 30, 300)


def timed(act: Callable[[], object], scale: Scale) -> list[float]:
    """Microseconds of CPU a call, of each round: other people's work is not in it."""
    found = []
    for _ in range(scale.rounds):
        calls, began = 0, time.thread_time()
        while (took := time.thread_time() - began) < scale.seconds:
            act()
            calls += 1
        found.append(took / calls * 1e6)
    return found


def cost(name: str, act: Callable[[], object], scale: Scale) -> None:
    found = timed(act, scale)
    notes = f"{spread(found)}; {load()}"
    figure(BENCH, name, median(found), "us", runs=scale.rounds, notes=notes)


def payload(encoded: bytes) -> int:
    return len(armour.pack("cart-07", [encoded]))


def of_envelopes(scale: Scale) -> None:
    sealing_key = X25519PrivateKey.generate()
    sealer = RoadSealer(sealing_key.public_key().public_bytes_raw())
    opener, signer = RoadOpener([sealing_key]), RoadSigner(Ed25519PrivateKey.generate())
    verifier, both = RoadVerifier([signer.public]), Protection(sealer, signer)
    codecs = Codecs([DICTIONARY_1])
    codecs.allow(codecs.ids)
    for size in SIZES:
        batch = Series(Scene(), seed=1).take(size)
        plain = records.encode(batch, codecs)
        sealed, signed_only = sealing.sealed(plain, sealer), sealing.signed(plain, signer)
        found, _ = envelope.decode(both.encode(plain))
        assert isinstance(found, Envelope)
        name, raw = f"records_b{size}", envelope.encode(plain)
        for word, one in (("sealed", sealed), ("signed", signed_only)):
            more = len(envelope.encode(one)) - len(raw)
            figure(
                BENCH, f"{name}_{word}_bytes", more, "B", runs=1, notes="more, before the armour"
            )
        share = payload(both.encode(plain)) / payload(raw)
        notes = f"{payload(raw)} B of payload without, {payload(both.encode(plain))} B with both"
        figure(BENCH, f"{name}_share", share, "", runs=1, notes=notes)
        cost(f"{name}_encode_us", partial(records.encode, batch, codecs), scale)
        cost(f"{name}_seal_us", partial(sealing.sealed, plain, sealer), scale)
        cost(f"{name}_sign_us", partial(sealing.signed, sealed, signer), scale)
        cost(f"{name}_verify_us", partial(sealing.verdict, found, verifier), scale)
        cost(f"{name}_open_us", partial(sealing.opened, found, opener), scale)


def of_answers(scale: Scale) -> None:
    signer = RoadSigner(Ed25519PrivateKey.generate())
    pinned = RoadVerifier([signer.public])
    logs = tuple(
        edgecore.LogAck(
            node="cart-07", stream=f"us{n}", klass=RecordClass.RESULT, epoch=1 << 40, upto=10_000,
            have=((10_010, 10_020),),
        )
        for n in range(8)
    )  # fmt: skip
    ack = edgecore.Ack(schema=1, node="cart-07", rx="0" * 32, n=1, echo="0" * 16, acks=logs)
    plain = edgecore.encode(ack)
    said = signed.sign("ack", plain, signer, heard="0" * 16)
    more = len(said) - len(plain)
    figure(BENCH, "ack_signed_bytes", more, "B", runs=1, notes=f"more, than {len(plain)} B")
    cost("ack_sign_us", lambda: signed.sign("ack", plain, signer, heard="0" * 16), scale)
    cost("ack_check_us", lambda: signed.check("ack", said, pinned), scale)


def of_primitives(scale: Scale) -> None:
    """What no code around them can save: a fresh X25519 key and an agreement, Ed25519 both ways."""
    there, signer = X25519PrivateKey.generate().public_key(), Ed25519PrivateKey.generate()
    signature, public = signer.sign(b"m" * 500), signer.public_key()
    cost("floor_x25519_key_us", X25519PrivateKey.generate, scale)
    cost("floor_x25519_agree_us", partial(X25519PrivateKey.generate().exchange, there), scale)
    cost("floor_ed25519_sign_us", lambda: signer.sign(b"m" * 500), scale)
    cost("floor_ed25519_verify_us", lambda: public.verify(signature, b"m" * 500), scale)


def main() -> None:
    scale = arguments(__doc__, full=FULL, quick=QUICK)
    of_envelopes(scale)
    of_answers(scale)
    of_primitives(scale)


if __name__ == "__main__":
    main()
