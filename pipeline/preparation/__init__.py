"""From what a source gives to data/prepare: images made ready, pooled on disk, ordered by content, written as splits."""
