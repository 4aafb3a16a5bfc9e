"""The prepared data set as it is read: each sample is an input, a hard label and a sample id.

A split is in memory or on disk, and its user need not know which. One on disk is read in pages and
windows, within a memory budget.

A new kind of input starts with a reader beside images.py, chosen in dataset.py and described in the
manifest (manifest.py), used by split_on_disk.py; splits.py has inputs of 8 bits, sample_ids.py ids
of pixels. What else knows pixels: preparation/ (sources/, make.py, statistics.py), views/
(operations/, points.py, spec.py, thumbnails.py), models/ (classifier.py, building.py, counting.py,
saved.py, predict.py, answers.py), labels/canaries.py, labelling/inspect_sample.py,
training/start.py, profiling/probe.py, evaluation/ (exam.py, corruptions/), explanation/, export/,
report/label_figures.py and doctor/.

    budget.py         MemoryBudget: how many bytes of inputs and labels are held at a time
    dataset.py        ImageDataset: the folder data/prepare, and the fingerprints of its splits
    decoding.py       image files -> pixels and back, by PIL, as in preparation/index_images.py
    formats.py        image files by their names and first bytes, and what else a file may be
    images.py         how images lie on disk: as pixels, or as encoded files
    manifest.py       DatasetManifest: the facts about the data set as a whole
    map_files.py      maps of classes on disk
    opening.py        opens splits in memory or on disk, as the budget decides
    paging.py         the order of an epoch: pages, windows, rows within a window
    sample_ids.py     sample ids, the random words of them that order rows, places in a list of them
    signal_kinds.py   the kinds of hard labels, by name
    split_on_disk.py  SplitOnDisk: inputs are read as they are asked for
    splits.py         Split, and SplitInMemory
    windows.py        a thread that reads the next window while the current one trains
"""
