"""Every way to make a label store.

derive.py           stores made from stores: subset, merge, average
dump.py             the teacher's labels: dump, verify, repair
imported_logits.py  logits of a teacher that runs elsewhere
read_ahead.py       images of blocks, read while the ones before are labelled
settings.py         The section `dump_labels` of params.yaml
takeover.py         labels of a store that another one takes over
teacher.py          a teacher at work: what it says of views
tune.py             encodings tried on labels: bytes against KL, and the one for a budget
verify_settings.py  The section `verify_labels` of params.yaml
workers.py          who works on what, among processes that share a folder
write_behind.py     blocks that are written while the next ones are computed
writer.py           the soft-label store: writer
verify.py  checks and repairs of a finished store
"""
