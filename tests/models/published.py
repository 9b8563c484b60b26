"""Parameter names and shapes of published networks, derived apart from our architectures.

Sources: the state dicts of locuslab/smoothing (archs/cifar_resnet.py, depth 6n + 2, basic
blocks) and of torchvision's resnet50, spelled out layer by layer.
"""

from __future__ import annotations

Shapes = dict[str, tuple[int, ...]]


def _norm(name: str, width: int) -> Shapes:
    keys = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{key}": (width,) for key in keys} | {f"{name}.num_batches_tracked": ()}


def cifar_resnet(depth: int, classes: int = 10) -> Shapes:
    shapes: Shapes = {"conv1.weight": (16, 3, 3, 3)} | _norm("bn1", 16)
    for stage, (before, width) in enumerate([(16, 16), (16, 32), (32, 64)], start=1):
        for block in range((depth - 2) // 6):
            name = f"layer{stage}.{block}"
            first = before if block == 0 else width
            shapes |= {f"{name}.conv1.weight": (width, first, 3, 3)} | _norm(f"{name}.bn1", width)
            shapes |= {f"{name}.conv2.weight": (width, width, 3, 3)} | _norm(f"{name}.bn2", width)
            if block == 0 and stage > 1:
                shapes |= {f"{name}.downsample.0.weight": (width, before, 1, 1)}
                shapes |= _norm(f"{name}.downsample.1", width)
    return shapes | {"fc.weight": (classes, 64), "fc.bias": (classes,)}


def resnet50(classes: int = 1000) -> Shapes:
    shapes: Shapes = {"conv1.weight": (64, 3, 7, 7)} | _norm("bn1", 64)
    stages = [(64, 64, 3), (256, 128, 4), (512, 256, 6), (1024, 512, 3)]
    for stage, (before, width, blocks) in enumerate(stages, start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            first = before if block == 0 else 4 * width
            shapes |= {f"{name}.conv1.weight": (width, first, 1, 1)} | _norm(f"{name}.bn1", width)
            shapes |= {f"{name}.conv2.weight": (width, width, 3, 3)} | _norm(f"{name}.bn2", width)
            shapes |= {f"{name}.conv3.weight": (4 * width, width, 1, 1)}
            shapes |= _norm(f"{name}.bn3", 4 * width)
            if block == 0:
                shapes |= {f"{name}.downsample.0.weight": (4 * width, before, 1, 1)}
                shapes |= _norm(f"{name}.downsample.1", 4 * width)
    return shapes | {"fc.weight": (classes, 2048), "fc.bias": (classes,)}
