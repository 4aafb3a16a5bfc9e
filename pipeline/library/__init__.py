"""The library: stores of labels in anyone's training loop. `import potstill` re-exports it.

Nothing of a stage is needed: no params.yaml, no folders of their own, no DVC.

arguments.py      the checks of plain arguments: numbers
ids.py            sample ids of images, and sample ids in any whole numbers
pixels.py         one image in any usual form, as pixels
labels.py         Labels: a store that is open, and its soft targets by sample id and view
remedies.py       what a user of the library does about labels that are of no use
held_view.py      the labels of one view, in memory as far as they were asked for
own_images.py     the images of a caller's own map-style data set
own_teacher.py    a teacher of the caller's own: any function from images to logits
label_dataset.py  labels for a data set of the caller's own
samples.py        the images that labels belong to: a prepared data set's, or a caller's own
items.py          the items of a data set, and a batch of them
dataset.py        DistillationDataset: a map-style data set of views with their soft targets
loader.py         LabelledLoader: our own fast batches of them
loss_inputs.py    the checks of what a loss is called with
losses.py         the losses as modules, and their weighted sum
"""
