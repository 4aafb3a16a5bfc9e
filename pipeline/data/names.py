"""The names of the splits, for who needs nothing else of the data set."""

SPLITS = ("train", "val", "test")
