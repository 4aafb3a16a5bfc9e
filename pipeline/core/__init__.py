"""The ground that every room stands on. It knows no samples, labels or networks.

arrays.py    Zarr groups: declared, written block by block, read
array_files.py  the files of an array, looked at before anything of them is unpacked or allocated
shards.py    rows of an array, read chunk by chunk without Zarr's event loop
zstd.py      Zarr's codec zstd, bounded; with arrays.py the only file that imports zarr
bounds.py    numbers of params.yaml, each with both of its bounds
allocation.py  what becomes of freed memory
memory.py    the memory that this machine has, and what of it is free
closure.py   the files that a script loads, from its imports alone
command.py   a stage as a command
config.py    sections and rows of params.yaml, read as typed settings
remedies.py  the ways out of a store that is of no use as it is
errors.py    errors for users: where, what was found, what was expected, what to do
extras.py    libraries that are not installed, and what brings them
files.py     files that are there whole or not at all, and fingerprints of content
locks.py     locks of files, who holds one, and a folder deleted where none is held
names.py     names of students and encodings
plain_files.py  files from anywhere, looked at before they are opened
progress.py  lines and bars of progress on standard error
sealed.py    JSON files that carry a fingerprint of themselves
scratch.py   folders in which a stage works, resumes and publishes its result
shortage.py  memory and room on a disk that are not there: what was asked for, by whom, where
tables.py    tables as tab-separated files
text.py      names in one form, and names made fit to be shown
seeding.py   random numbers as pure functions of seed and counter
sample_draws.py  the same for each sample and view, as tensors
stopping.py  signals that end a stage
tensors.py   tensors on disk, as safetensors files
trees.py     folders with all that is in them, linked and removed
threads.py   a function of many items, in their order, by several threads
"""
