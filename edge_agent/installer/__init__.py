"""The rollout's own process: asks the repository, downloads, unpacks, proves. One errand each.

It is niced, it is the first that the kernel kills when memory is short, and it dies with the agent.
Only it loads TUF. It never talks to the inference side, and never moves a pointer of the store.
"""
