"""From a foreign ONNX file to a package that an edge takes: wrapped, proven, measured, packed.

`wish` is what the person wrote, `reading` the file, `shaping` its sizes and its opset, `wrapping`
the input in the graph, `halving` the FP16 variant, `proving` the runs on frames, `judging` what
they say, `make` the whole way. Needs `onnx`, which the agent never does.
"""
