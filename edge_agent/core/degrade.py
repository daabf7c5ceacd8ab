"""What a level takes away. Level 0 is everything; each level keeps what the one above it sheds.

level   second models   low streams   normal streams   high streams
  0     run             all           all              all
  1     shed            all           all              all
  2     shed            every 2nd     all              all
  3     shed            every 4th     every 2nd        all
  4     shed            none          every 4th        every 2nd
"""

from __future__ import annotations

MAX_LEVEL = 4
NEVER = 0
_EVERY = {
    "high": (1, 1, 1, 1, 2),
    "normal": (1, 1, 1, 2, 4),
    "low": (1, 1, 2, 4, NEVER),
}


def every(level: int, priority: str, *, extra: bool) -> int:
    """Run on each N-th frame; 0: on none."""
    level = min(max(level, 0), MAX_LEVEL)
    if extra and level > 0:
        return NEVER
    return _EVERY[priority][level]
