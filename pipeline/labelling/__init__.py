"""Every way to make a label store, and to check and repair one.

A dump walks over blocks (one view of a range of samples): the teacher labels a block once, every
encoding writes it, and any number of workers share the blocks through locks in one folder. A store
is finished when every block has a record. Another way to make a store ends in `StoreWriter`, as
these do.

settings.py         the sections `dump_labels` and `verify_labels` of params.yaml
stores.py           the plan of a dump: the manifests of its stores, the facts about the teacher
budgets.py          encodings for the budgets among the rows, chosen once for all workers
site.py             the place where a dump's workers meet, and what an earlier dump left there
remote_site.py      the same for workers without a shared disk: a folder in an object store
run.py              one worker's part of a dump, from the plan to the published stores
dump.py             the walk over blocks: claim, label, encode, commit
groups.py           blocks that one worker labels together
target.py           a store that a dump writes, and what it lacks
at_once.py          the number of samples whose outputs are in memory together
teacher.py          the teacher at work: logits of views
pilot.py            labels before the first block: encodings are chosen by them and learn from them
read_ahead.py       inputs of the next blocks, read while the teacher is at work
write_behind.py     blocks written while the teacher is at work
takeover.py         labels copied from an earlier store, found by sample id and view
records.py          the records of what is written of a store, on a disk or in an object store
writer.py           the writer of a store: blocks, their records, the manifest at the end
first_views.py      the mean of what the teacher predicts for first views, and anchors made of it
anchors.py          the anchors of a store that is being written
verify.py           the checks of a finished store, with or without the teacher
repair.py           broken blocks labelled again
imported_files.py   files of a teacher that ran elsewhere: a row of numbers for each sample
imported_ids.py     the sample ids of such rows
imported_logits.py  rows that are logits or probabilities
imported_sources.py files of logits, or label files of other systems
imported_teachers.py  teachers that ran elsewhere, whose rows are found by sample
imported_order.py   whether embeddings can be those of the samples
imported_stores.py  stores of their logits and embeddings
foreign/            label files of other systems; a new layout goes there
parquet_files.py    Parquet files of labels
copies.py           copies between a device and this machine's memory, beside other work
derive/             stores made from finished stores: subset, merge, average
closeness.py        the distance of labels from the teacher in words
inspect.py          a store, described for a person
card.py             the card of a store, in Markdown, for those who get its labels
packing.py          a store made one file, and a store made of the file
inspect_sample.py   one sample of a store: probabilities and views
inspect_maps.py     one sample of a store of classes at positions
inspect_vectors.py  one sample of a store of embeddings
temporary.py        temporary folders for trials, and full disks by name
ladder.py           encodings worth trying, and the bytes and KL of each
choosing.py         the ladder, tried on labels, and the rung for a budget
tune.py             the ladder as a command reports it
tune_source.py      labels to try encodings on: the teacher's, or a dense store's
tune_total.py       views and encodings for a total size, and small stores to try them with
"""
