"""The cost of a network, measured in a process of its own.

latency.py  runs the probe
probe.py    latency and memory of one network, in a process of its own
"""
