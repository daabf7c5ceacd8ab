"""Store and forward, and rollouts, under faults, as commands: `tools/faults kill|flips|…`.

Each prints one line of JSON at its end and exits 1 when anything was lost, doubled or wrong. Real
processes are killed for real; nothing here knows how the agent decides.
"""
