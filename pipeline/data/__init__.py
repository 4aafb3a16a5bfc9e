"""The prepared data set as it is read.

dataset.py    the prepared data set: its splits and its manifest
decoding.py   encoded images -> pixels; the one file that imports PIL
images.py     how images lie on disk: as pixels, or encoded
splits.py     one split, in memory or on disk: images, hard labels, sample ids
streaming.py  data that does not fit in memory: the budget, pages, windows
sample_ids.py  sample ids, and where samples stand in a list of them
"""
