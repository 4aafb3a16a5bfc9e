"""The stage `explain`: hard labels that are probably wrong, samples to look at, and maps of what
networks look at.

A store's soft labels give the suspects; `evaluate` gives the samples on which students disagree
with the teacher. Of these and some ordinary samples, every network's predictions are shown, and
maps of what they rest on: of images and sounds on two sheets of tiles, of texts and rows in words.
A new sort of sample belongs into samples.py, a new figure of a sample into
`results.explanation.SampleRow` and rows.py, a new kind of samples into shown/.

attribution.py     maps of images by occlusion; the one file that imports captum
class_colours.py   the colours of classes in a map of them
checked_labels.py  the check of a project's hard labels, and the list of suspects
disagreement.py    the distilled students, and the samples on which they disagree with the teacher
explain_classes.py all of it where a sample has a class, or a set of them
explain_maps.py    all of it where each position has a class
opinions.py        the teacher's opinions on samples, as a store holds them
places.py          the folders that the stage reads and writes
predictions.py     every network on the chosen samples: predictions and maps
rows.py            the contents of samples.json and explain.json
samples.py         the samples to look at, and their stored views
settings.py        the section `explain` of params.yaml
shown/             the ways in which samples are shown, one file for each kind
shown_maps.py      images with their maps of classes, the known one and those of networks
suspect_maps.py    training images whose map of classes the teacher contradicts most
suspects.py        samples whose hard label is probably wrong, by the teacher's opinions
suspect_entries.py entries of independent classes that are probably wrong
tiles.py           sheets of tiles, and maps drawn over images
"""
