"""Results: the typed contents of the JSON files that one stage writes and the report reads.

A result is a frozen dataclass; its fields are the keys of the file, in their order. A new result of
a stage is a file here. A new figure of a network is a field of `Scores` in evaluation.py, or of the
figures of one signal, which a file of evaluation/marks/ computes.

costs.py                latency and memory of a network
evaluation.py           reports/evaluate.json: networks, comparisons with twins, stores
export.py               reports/export/<name>.json: the files of a student
explanation.py          reports/explain.json and data/explain/samples.json
files.py                results to files and back
independent_classes.py  figures of a network that only independent classes have
ladder.py               reports/tune_labels/ladder.json: encodings tried on the same labels
networks.py             the name of the teacher among networks, and the stage that makes each
probe.py                reports/probe/<name>.json: what an embedding knows of classes
"""
