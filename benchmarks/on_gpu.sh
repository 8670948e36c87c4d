#!/usr/bin/env bash
# Measures everything that needs a graphics card, in parts of at most ten minutes each.
#
#     benchmarks/on_gpu.sh step|rivals|packing|precision|cell OUT [PYTHON]
#
# step       the decision table, within five minutes: the tests that need a card; a step called,
#            replayed, compiled, in packs of K runs; its kernels; the published rule; the rivals
# rivals     the bilevel step against its rivals in every case; what a run costs besides its steps
# packing    runs an hour for numbers of processes and packs, with and without NVIDIA MPS
# precision  final accuracies in float32, tf32 and bf16, 30 seeds of one cell of digits
# cell       CIFAR-10, 10 images a class, four methods, 30 seeds (24,000 steps), without Ray and
#            MLflow. The results are files in OUT/.l2t/cifar10_small/spool and OUT/cell.tar.gz; a
#            launch elsewhere with the same --set takes them over. Unpack cell.tar.gz into OUT, and
#            another call goes on.
#
# Variables of the environment, with their defaults:
# IMAGES     a folder or tar of train/<class>/*, test/<class>/*; cell needs it
# WEIGHTS    the published ResNet-32; cell and precision need it
# PACK       runs in a pack (8)
# PROCESSES  processes at once (2)
# PRECISION  tf32; float32 alone takes 4 minutes at the card's full rate
# MORE       further arguments of l2t_ray.offline, such as `--where seed=0`
#
# PYTHON needs torch, torchvision, numpy, pydantic and pyyaml; matplotlib for the figures; pytest,
# pytest-timeout and hypothesis for the tests; scipy and scikit-learn for `precision`. Results are
# written as they are measured.
set -euo pipefail
part=$1 out=$(mkdir -p "$2" && cd "$2" && pwd) python=${3:-python3}
case $python in */*) python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") ;; esac # `precision` and `cell` change to OUT
here=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | tee "$out/$part.card" || echo "no card: the CPU"
case $part in
step)
    # these files alone: other tests import Ray and MLflow
    files="tests/training/test_cuda_graph.py tests/training/test_images.py
        tests/data/test_augment.py tests/data/test_place.py tests/data/test_transforms.py"
    # shellcheck disable=SC2086  # a list of files
    (cd "$here" && timeout 75 "$python" -m pytest -q -m gpu -p no:cacheprovider $files 2>&1 | tail -n 20) |
        tee "$out/gpu_tests.txt" || true
    timeout 220 "$python" -m benchmarks.decision_table --seconds 180 --out "$out/decision_table" |
        tee "$out/decision_table.txt"
    ;;
rivals)
    "$python" -m benchmarks.bench_costs --out "$out/bench_costs" | tee "$out/bench_costs.txt"
    "$python" -m benchmarks.bench_step --repeat 10 --out "$out/bench_step" | tee "$out/bench_step.txt"
    ;;
packing)
    # 15 cases of about 20 s
    "$python" -m benchmarks.bench_packing --precision tf32 --processes 1 2 4 --pack 1 4 8 --batch 100 --seconds 4 \
        --out "$out/packing" | tee "$out/packing.txt"
    ;;
precision)
    weights=$(realpath "$WEIGHTS")
    cd "$out"
    "$python" -m benchmarks.bench_precision --weights "$weights" --seeds 30 --out precision | tee precision.txt
    ;;
cell)
    images=$(realpath "$IMAGES") weights=$(realpath "$WEIGHTS")
    cd "$out"
    ln -sfn "$images" "$(basename "$images")"
    ln -sfn "$weights" resnet32.pth.tar
    sed -e "s|{name: cifar10, samples_per_class: 10}|{name: image_folder, title: cifar10, path: $(basename "$images"), samples_per_class: 10}|" \
        -e "s|weights/resnet32-tinyimagenet.pt|resnet32.pth.tar|" "$here/sweeps/cifar10_small.yaml" > cifar10_small.yaml
    n=${PROCESSES:-2} precision=${PRECISION:-tf32}
    started=$(date +%s)
    for i in $(seq "$n"); do
        timeout 540 "$python" -m l2t_ray.offline cifar10_small.yaml --pack "${PACK:-8}" --part "$i/$n" \
            --set "training.precision=$precision" ${MORE:-} > "cell.$i.txt" 2> "cell.$i.log" &
    done
    wait
    echo "$(($(date +%s) - started)) s, $n processes, packs of ${PACK:-8}, $precision" | tee cell.seconds
    [ ! -d .l2t ] || tar czf cell.tar.gz .l2t # results and checkpoints in one file, from which another call goes on
    tail -n 3 cell.*.txt cell.*.log
    ;;
*)
    echo "usage: $0 step|rivals|packing|precision|cell OUT [PYTHON]" >&2
    exit 2
    ;;
esac
