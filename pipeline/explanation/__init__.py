"""The stage `explain`: where networks look, and which labels are probably wrong.

attribution.py  what a network looks at; the one file that imports captum
samples.py      samples to look at, on sheets of tiles
settings.py     The section `explain` of params.yaml
suspects.py     training samples whose label is probably wrong
"""
