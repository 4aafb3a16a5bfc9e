#!/bin/bash
# A student's first steps on an emulated 64-bit ARM board, against the same steps here.
#
#   docs/recipes/board.sh FOLDER        # as root, in the top folder of a project after `make repro`
#
# It makes an arm64 Debian in FOLDER (7 GB; 300 MB are downloaded from Debian's mirror and 2.5 GB from the package
# index, because the index has PyTorch for ARM with CUDA alone), installs '.[student]' there from wheels, trains `tiny`
# for 40 steps from the store, and compares each loss. It needs debootstrap, qemu-user-static and binfmt-support
# (`apt-get install` has them), and binfmt_misc mounted. It takes about 15 minutes. The second time it only trains.
#
# cortex-a72 is the core of a Raspberry Pi 4. The emulator's own choice, `max`, has vectors of 2,048 bits, which no board
# has, and with which a matrix product of the PyTorch wheel is wrong.
set -euo pipefail
root=$(realpath -m "${1:?the folder of the arm64 system}")
steps=${STEPS:-40}
export QEMU_CPU=${QEMU_CPU:-cortex-a72} OMP_NUM_THREADS=1

# 1. The system, once.
if [ ! -e "$root/venv/installed" ]; then
    debootstrap --arch=arm64 --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root"
    cp /etc/resolv.conf "$root/etc/"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    mkdir -p "$root/potstill"
    git archive HEAD pyproject.toml constraints.txt README.md LICENSE pipeline potstill stages | tar x -C "$root/potstill"
    chroot "$root" sh -ec 'python3 -m venv /venv; cd /potstill
        /venv/bin/pip install --only-binary=:all: --no-cache-dir -c constraints.txt ".[student]"; touch /venv/installed'
fi

# 2. The data, the store, and the code as it is here.
rm -rf "$root/potstill/data"
mkdir -p "$root/potstill/data/dump_labels"
cp -r params.yaml pipeline stages benchmarks "$root/potstill/"
cp -rL data/prepare "$root/potstill/data/"
cp -rL data/dump_labels/dense8.zarr "$root/potstill/data/dump_labels/"

# 3. The same steps there and here.
chroot "$root" sh -ec "uname -m; cd /potstill; /venv/bin/python -m benchmarks.board_steps --steps $steps > /board.txt"
python -m benchmarks.board_steps --steps "$steps" --against "$root/board.txt"
