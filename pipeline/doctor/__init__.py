"""What `make doctor` looks at before hours are spent.

findings.py  What a check-up finds, told line by line as it is found
images.py    A look at the images before anything is trained: of the prepared data set, or of its source where there is none
labels.py    Label stores before they are written: what students will find in them, and how large they will be
memory.py    Memory for images: whether what each stage may take is enough, be it for all of them or for streaming
networks.py  Teacher and students on a few of the images: whether they can be built, fit these and can be trained, and how fast
params.py    params.yaml as a whole: every section and row, and every fault in them
space.py     Bytes on disk: of what is there, and of label stores that are yet to be written
speed.py     How long networks take here: real steps of the real training loop, on a few images, timed
telling.py   What a check-up says of images, time and disk
"""
