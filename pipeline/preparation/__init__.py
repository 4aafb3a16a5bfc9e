"""The stage `prepare`: from the images that a source has to the data set in `data/prepare`.

One pass over the source makes every image ready and puts it into a pool on disk. Then each image
gets its split. The splits are written in an order that depends on the images alone, in which any
consecutive rows are a random sample. Any number of processes share both passes: each takes pieces
of the source, and then files of the splits, that nobody holds.

    settings.py    the section `prepare` of params.yaml
    sources/       where raw images come from; a new source is a file there and a place in its table
    listing.py     images by split and class, as far as a few seconds go
    presence.py    the files of a source, looked at before any image is read
    elsewhere.py   whether images that were listed before are not on this machine
    pixel_shares.py  the classes of the pixels in masks, counted
    understood.py  the lines about classes, splits and files that stage and doctor print first
    pixels.py      a look at some images: grey or colour, sizes, bits used
    form.py        the form that samples are made into, and the look that decides it: abstract
    looks.py       the looks, by kind of inputs
    made.py        a sample made ready, one that is broken, one that asks for a wider form
    rows.py        rows of a table made ready: bins, names of categories, a code for each cell
    make.py        a raw image made ready: decoded, fitted to one size, kept as pixels or as a file
    index_images.py  images whose pixels are numbers: the files of masks
    maps.py        masks as maps of classes, fitted as their images are
    texts.py       a look at texts, and the form that they are made into
    text_settings.py  the settings of that form
    words.py       a text cut into words
    tokenizer_training.py  tokenizers trained on the training split
    site.py        the place where the workers meet
    division.py    the pieces of a source
    filling.py     a pool filled in one form, which is widened where an image needs it
    together.py    the work as processes share it: pieces filled, splits assigned, files written
    helpers.py     processes that help one process on its machine
    numbering.py   labels as numbers: classes, or entries of independent classes
    piece.py       some images of a source, made ready and kept on disk
    pool.py        all pieces of a source, read in another order
    blocks.py      the records of the images in a pool, a few megabytes of images at a time
    buckets.py     the files of a pool: a sort on disk in two passes
    sound_files.py  sounds in files, as 16-bit numbers at one rate; imports soundfile
    sounds.py      a raw sound made ready: one rate and one length; the look at some
    groups.py      groups of samples that stay in one split
    order.py       the order of rows, and the draw of those that are held out
    hold_out_sets.py  the same draw where classes are independent
    enough.py      whether classes have enough images for the splits, before any is decoded
    assign.py      the split of every image: the source's own, or held out
    contradictions.py  equal samples in several classes
    levels.py      the pixel levels of an image, counted
    statistics.py  mean and standard deviation of each channel, counted exactly
    split_files.py  a split written file by file
    write.py       a data set written from splits in memory, and the manifest
    lists.py       lists beside the data set: samples, duplicates, broken images
    parts.py       the parts of a data set that processes share
    finish.py      a pool written as a data set
"""
