"""What everything else stands on: it knows nothing of samples, labels or networks.

arrays.py    checksummed arrays on disk; the one file that imports zarr
closure.py   The import closure of a script: the files of this project that can change what it does, and their fingerprint
command.py   How a stage becomes a command
config.py    a section of params.yaml -> a frozen dataclass
errors.py    the exception tree; a user's mistake is one line
files.py     atomic files, fingerprints, scratch folders that survive a kill
progress.py  a bar on a terminal, lines in a log
seeding.py   counter-based random numbers (Philox)
scratch.py  scratch folders: unfinished work survives a kill, finished results survive DVC
"""
