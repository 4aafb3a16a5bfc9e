"""The stage `train_teacher`.

calibration.py  the calibration temperature
chance.py       is a teacher better than guessing?
settings.py     The section `train_teacher` of params.yaml
"""
