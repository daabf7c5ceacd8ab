"""The road from a spool to the hot tier in simulated time: hours of it in seconds, nobody sleeps.

    spool's books ── outbox ──▶ EdgeHub (the double's) ──▶ the hot tier's receiver and its answers
                        ▲────────────── FIFO of 100 ◀──────────────────────────────┘

What decides is real: `core.outbox` with ledger, probe, governor and backfill at the edge, the
double's `road` between, `hot_tier.receiver` and `answers` behind it. What only carries is left out:
records have a size and no content, nothing is encoded, no disk is written.
"""
