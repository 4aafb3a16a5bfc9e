"""The stage `train_teacher`: from data and hard labels to a network with a calibration temperature.

The teacher is one more task for the training loop. A network that learned elsewhere goes through
the same files and is trained for no epoch.

at_once.py             an estimator fitted on all rows at once
calibration.py         the calibration temperature, and the teacher's figures with and without it
class_temperatures.py  one temperature against one for each independent class
outputs.py             the check that an imported teacher's outputs are in the order of the classes
settings.py            the section `train_teacher` of params.yaml
task.py                the splits that a teacher learns from, and its batches, loss and validation
"""
