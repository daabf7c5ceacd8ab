"""Rollouts while everything falls over: the parts of `tools/faults rollouts`.

plan       what befalls a cycle, by its seed alone; pure
packages   models that behave, and ones that do not
words      who wanted what of the model, and when
site       the far side: broker, road, EdgeCore's double, hot tier, signed repository
aboard     the whole agent as processes, its console, its folders
watch      looks at all of it again and again, and writes down what it saw
deeds      carries out what the plan says
judge      what was seen against what was said; pure
"""
