"""The stage `evaluate`: networks on the test split.

breakdown.py    test accuracy by class, by pair of classes, by rank
corruptions.py  images made worse: noise, blur, contrast, JPEG
exam.py         networks on the test split
settings.py     The section `evaluate` of params.yaml
twins.py        students against twins over seeds, with standard errors
"""
