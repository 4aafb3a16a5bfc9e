"""Stores made from finished stores, without a teacher.

A derivation is a frozen dataclass that knows its sources and settings, and makes the new store. A
new one is a file here with a class of its own kind, and a command in stages/derive_labels.py.

base.py       the interface of a derivation, and the run that survives a kill
subset.py     some views of some samples of a store
merge.py      all views and samples of several stores of one teacher
average.py    the weighted mean of several teachers
assemble.py   a store whose labels are copied from others
checks.py     stores that fit each other
options.py    views, samples, weights and encodings, as a person writes them
"""
