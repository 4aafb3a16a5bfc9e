"""The prepared data set as it is read: each sample is an input, a hard label and a sample id.

A split is in memory or on disk, and its user need not know which. One on disk is read in pages and
windows, within a memory budget.

A sample is an array of whole numbers of some kind: an image, a text, a sound, a row of a table. A
new kind starts in input_kinds.py. It needs a source, a look and a form in preparation/, operations
in views/operations/, a classifier and families in models/, and a way to be shown in explanation/,
in export/predict.py and in doctor/. Nothing between them asks what a sample is.

    auto_budget.py    `memory_budget_mb: auto`: what this machine has room for
    budget.py         MemoryBudget: how many bytes of inputs and labels are held at a time
    content.py        Content: the things that inputs stand for; sample ids
    content_files.py  the words of texts, in files beside a data set
    dataset.py        ImageDataset: the folder data/prepare
    decoding.py       image files -> pixels and back, by PIL, as in two files of preparation
    file_content.py   the bytes of a sample's file, and the error that they are no sample
    formats.py        image files by their names and first bytes, and what else a file may be
    hard_labels.py    hard labels as numbers, and the fingerprint of samples with theirs
    images.py         how inputs lie on disk: as numbers, or as encoded files of images
    input_kinds.py    the kinds of inputs, in a table
    jpeg_header.py    the size of a plain JPEG file, by its header
    manifest.py       DatasetManifest: the facts about the data set as a whole
    map_files.py      maps of classes on disk
    opening.py        opens splits in memory or on disk, as the budget decides
    paging.py         the order of an epoch: pages, windows, rows within a window
    row_columns.py    the columns of rows: the code of a cell, and what a code stands for
    sample_ids.py     sample ids, the random words of them that order rows, places in a list of them
    signal_kinds.py   the kinds of hard labels, by name
    split_on_disk.py  SplitOnDisk: inputs are read as they are asked for
    splits.py         Split, and SplitInMemory
    tokenizer_file.py  a tokenizer in a file; the one file of this room that imports tokenizers
    windows.py        a thread that reads the next window while the current one trains
"""
