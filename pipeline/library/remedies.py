"""The ways out, for a user of the library, of labels that are of no use as they are."""

from pipeline.core.remedies import Remedies

_AGAIN = "label the images with potstill.label_dataset"

REMEDIES = Remedies(
    lost=f"give the path of a store (`.../soft.zarr`), or {_AGAIN}",
    damaged=f"get the store again, or delete it and {_AGAIN}",
    unfinished="call what makes it again, which goes on",
    other_data=f"{_AGAIN}, or give the very pixels that were labelled: same size and channels, no augmentation",
    other_views=f"Potstill renders views in another way now: delete the store and {_AGAIN}",
)
