"""The stage `prepare`: from raw samples to `data/prepare`.

From what a source gives to data/prepare: images made ready, pooled on disk, ordered by content, written as splits.

    blocks.py    Blocks: what a pool takes from its source at a time, and the record of what these images are
    buckets.py   Buckets: files that things are dealt into as they come, and that are read one after the other
    lists.py     Lists beside a prepared data set, for people and for joins: tab-separated, a line of names first
    make.py      What becomes of a raw image: decoded, fitted to one size, and kept as pixels or as an encoded file
    pool.py      Everything that a source gives, made ready and kept on disk, from which splits are written in another order
    settings.py  The section `prepare` of params.yaml
    sources/     where raw images come from, one file each
    write.py     Making a data set: the order of its rows, which images are held out, statistics of the pixels, and splits written to
    order.py  the order of rows, and which are held out
    statistics.py  mean and standard deviation of each channel
"""
