"""The inference side: everything from capture to decoded result.

Runs as a child process (`python -m edge_agent.inference`) or, the same code, in threads of the
agent. Has no asyncio, writes no file, opens no network but its sources. It is told what to do over
one socket whose end of file means that the other side is gone (`control`), and hands results over
in shared memory (`core.ring`).
"""
