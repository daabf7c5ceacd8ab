"""The test rig of the pipeline bench: cameras, meters and models that are known exactly.

The agent under test is the real one (`app.running`) with the real inference side; only the camera
is ours, and a meter stands around the bound session.
"""
