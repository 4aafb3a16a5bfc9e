"""The stage `export`: a trained student in the forms that others run.

ONNX in float32 and int8, safetensors, and ExecuTorch. A file takes pixels as they are, 0 to 255 in
uint8 (of sounds their samples, of rows their codes, of texts their tokens), returns logits, and its
metadata describe its input and its classes. A new form is a file of its own; write.py calls it,
and measure.py compares it with torch.

settings.py         the section `export` of params.yaml
write.py            writes every form of a student into a folder
measure.py          the report: accuracy, parity and cost of the files
parity.py           the difference between a file's logits and torch's
programs.py         a network as a graph of operations, for any exporter
untraceable.py      networks that have no such graph: which line, and what to write instead
onnx_file.py        writes and runs ONNX files
int8_file.py        the int8 file of an ONNX file: which layers stay in float32
trials.py           what a network loses in int8, in one form or another
time_limit.py       a limit on the time that a library's work may take
quantization.py     makes an int8 file of an ONNX file, in one form
aware.py            the int8 file of a network that is trained further for it
fake_int8.py        the graph of an int8 file as a torch network that can be trained
operators.py        the operators of such a graph, with gradients
executorch_file.py  writes and runs ExecuTorch programs; the one file that imports executorch
about.py            the metadata in every file, and the safetensors file
predict.py          the example script that is exported beside the files; it stands alone
predict_row.py      the script of networks for rows
predict_sound.py    the script of networks for sounds
predict_text.py     the script of networks for texts
libraries.py        are the libraries installed, and their warnings silenced
"""
