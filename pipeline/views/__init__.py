"""Augmented views of samples: a pure function of (seed, sample id, view number).

Nothing about a view is stored: the student replays what the teacher saw from the same numbers.
Random words become whole numbers before a pixel is touched, and pixels stay whole 8-bit numbers
after every operation. So a view is the same bits on every device, in any batch and with every
version of every library.

    operations/    one augmentation each; a new one goes there
    maps.py        maps of classes, moved as pixels are
    plan.py        rows of a split -> views: what is drawn for each, its partner, its labels
    spec.py        ViewSpec: the settings of all views of a store; draws numbers and renders them
    points.py      a few pixels of views, which a store keeps as canaries
    thumbnails.py  small pictures of views, which a store of format 1 keeps as canaries
"""
