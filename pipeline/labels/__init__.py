"""The label store as it is read, and the encodings in which labels are written.

A store holds the labels of some views of some samples; its rows are joined to a split by sample id,
never by position. Rooms that make stores (labelling) and rooms that learn from them (student) meet
here and nowhere else.

encodings/   the ways to write a label vector, one file each, and their table; new ones go there
targets.py   soft targets that keep a few classes only
position_targets.py  soft targets at some positions of a grid
manifest.py  the facts that a store states about itself, and its blocks
entries.py   the entries of a manifest, by types and bounds
notes.py     the lines about what labels stand for, where views do not show that
fields.py    labels as rows of fields: encoded from logits, measured, chosen from, digested
fidelity.py  the distance of decoded labels from the teacher, in parts that merge
canaries.py  the proof that views are rendered as the teacher saw them
blocks.py    arrays in blocks of rows, each checked against its digest
samples.py   the samples of a store by row, and the keys by which they are known
reader.py    the reader of a store, and the replacement of one of its blocks
remote.py    a store at a URL, mirrored on disk
cache.py     the folder of mirrors
packed.py    a packed store: one zip file, read by the names that a store's files have
fetched.py   a packed store at a URL
unpacked.py  a packed store, mirrored on disk as it is read
mirrored.py  arrays that lie elsewhere, read from a folder that comes to hold their files
downloads.py a file on its way from a server: tried again, bounded in size and time
uploads.py   files on their way to a place that many write to: tried again, never over another's
answers.py   the answers of servers, and why a file does not come
servers.py   servers by their addresses, and web servers: a new kind of address goes there
buckets.py   buckets of object stores (s3://, gs://, az://), read and written; their credentials
disk_folder.py  a folder on a disk, written as a bucket is: without locks
join.py      the rows of a store for a split, and the labels in memory at a time
"""
