#!/bin/sh
# CMake flags for the GPUs of this machine; nothing where there is no driver or no nvcc.
[ -e /dev/nvidiactl ] || exit 0
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[ -x "$nvcc" ] || { echo "no nvcc, so no CUDA backend: install the CUDA toolkit (12 or 13)" >&2; exit 0; }
archs=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -u |
    sed 's/^90$/90a/; s/$/-real/' | paste -sd ';')
[ -n "$archs" ] || exit 0
echo "-DGAGGLE_CUDA=ON -DGAGGLE_CUDA_ARCHS=$archs -DCMAKE_CUDA_COMPILER=$nvcc"
