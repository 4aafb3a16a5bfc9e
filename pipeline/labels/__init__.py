"""The label store as it is read.

canaries.py  the proof that views are replayed as the teacher saw them
encodings/   how a label vector is written, one file each
fidelity.py  how far decoded labels are from the teacher
fields.py    labels as a store keeps them: made of logits, measured, digested
join.py      which rows of a store are whose, and how these come into memory
manifest.py  what a soft-label store says of itself
reader.py    the soft-label store: reader, repair of blocks
remote.py    a store at a URL, mirrored on disk; the one file that imports obstore
targets.py   soft targets that keep a few classes only
"""
