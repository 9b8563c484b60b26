"""What the GPU backend does on the device at hand, beside the best that torch and CuPy compose.

    python bench/gpu.py [--out FOLDER]

Times are medians of device events after warming up.  "Of the limit" is the share of that which
binds: of writing 4 bytes a value, or of making the one Philox word that a value of any family
takes.  "Error" is the largest against the reference, over the largest of its row.  The table is
written as it comes: what a run that is cut short measured is kept.
"""

from __future__ import annotations

import argparse
import datetime
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cupy
import numpy as np
import torch

import cert_core as cc
from cert_core import kernels
from cert_core.kernels import reference
from cert_core.kernels.gpu import launches
from cert_models.networks.architectures import cifar_resnet110
from cert_models.smooth import SmoothedClassifier

DIM, ROWS = 3072, 1 << 18  # 3.2 GB of float32
LINES: list[str] = []
TABLE: list[Path] = []  # where it is written

WORDS = """
extern "C" __global__ void words(int blocks, cc_u64 key, cc_u32* out) {
  cc_u32 mixed = 0;
  const cc_u64 sample = (cc_u64)blockIdx.x * CC_THREADS + threadIdx.x;
  for (int i = 0; i < blocks; ++i) {
    const cc_words words = cc_block(sample, i, 0, key);
    mixed ^= words.w[0] ^ words.w[1] ^ words.w[2] ^ words.w[3];
  }
  if (mixed == 12345) out[0] = mixed;
}
extern "C" __global__ void store(float4* out) {  // 64 bytes a thread
  out += (cc_u64)blockIdx.x * 4 * CC_THREADS + threadIdx.x;
  for (int i = 0; i < 4; ++i) out[i * CC_THREADS] = make_float4(1, 2, 3, i);
}
"""


def say(line: str = "") -> None:
    print(line, flush=True)
    LINES.append(line)
    for path in TABLE:
        path.write_text("\n".join(LINES) + "\n", encoding="utf-8")


def seconds(work: Callable[[], Any], *, warm: int = 2, rounds: int = 7) -> float:
    """Median time on the device, in seconds."""
    for _ in range(warm):
        work()
    taken = []
    for _ in range(rounds):
        begun, ended = cupy.cuda.Event(), cupy.cuda.Event()
        begun.record()
        work()
        ended.record()
        ended.synchronize()
        taken.append(cupy.cuda.get_elapsed_time(begun, ended) / 1e3)
    return statistics.median(taken)


def limits(out: Any) -> tuple[float, float]:
    """(values of 4 bytes written, Philox words made) a second."""
    stream = cupy.cuda.get_current_stream().ptr
    by = {
        "cudaMemsetAsync": seconds(
            lambda: cupy.cuda.runtime.memsetAsync(out.data.ptr, 1, out.nbytes, stream)
        )
    }
    module = cupy.RawModule(code=launches.source("threads.cuh") + WORDS, options=("-std=c++17",))
    store, words = module.get_function("store"), module.get_function("words")
    block = (launches.THREADS,)
    by["16-byte stores"] = seconds(lambda: store((out.nbytes // 64 // block[0],), block, (out,)))
    grid, blocks, sink = 4096, 1024, cupy.zeros(1, "uint32")
    arguments = (np.int32(blocks), np.uint64(7), sink)
    taken = seconds(lambda: words((grid,), block, arguments))
    made = 4 * grid * block[0] * blocks / taken
    said = ", ".join(f"{name} {out.nbytes / each / 1e12:.2f} TB/s" for name, each in by.items())
    say(f"limits: {said}; Philox {made / 1e9:.0f} G words/s")
    return out.size / min(by.values()), made


def error(noise: cc.Noise, out: Any, center: Any) -> float:
    """Of the first and the last rows drawn, over the largest value of a row."""
    worst = 0.0
    for start in (0, len(out) - 2):
        rows = out[start : start + 2].get()
        expected = reference.draw(noise, 2, 1, start=start, center=center.get())
        size = np.abs(expected).max(axis=1, keepdims=True)
        worst = max(worst, float((np.abs(rows - expected) / size).max()))
    return worst


def by_torch(family: str, noise: cc.Noise, out: Any, center: Any) -> Callable[[], Any]:
    """The best composition of torch calls that we know, in place."""
    tensor, x = torch.from_dlpack(out), torch.from_dlpack(center)
    record = noise.radial
    shape = torch.full((len(tensor), 1), record.shape if record is not None else 1.0, device="cuda")

    def radii() -> Any:
        assert record is not None
        return record.scale * torch._standard_gamma(shape) ** (1 / record.power)

    def run() -> None:
        if family == "gaussian":
            tensor.normal_(0.0, noise.scale_unit / 2**0.5)
        elif family == "l2":
            tensor.normal_()
            tensor.mul_(radii() / torch.linalg.vector_norm(tensor, dim=1, keepdim=True))
        elif family == "l1":
            tensor.uniform_(-1, 1)
            magnitude = tensor.abs().log_()
            tensor.sign_().mul_(magnitude).mul_(-radii() / magnitude.sum(1, keepdim=True))
        elif family == "linf":
            tensor.uniform_(-1, 1).mul_(radii())
        else:  # truncated normals at one rho
            tensor.uniform_(-0.9999, 0.9999).erfinv_().mul_(2**0.5 * noise.scale_unit)
        tensor.add_(x)

    return run


def by_cupy(family: str, noise: cc.Noise, out: Any, center: Any) -> Callable[[], Any]:
    """The same of CuPy's; mixed noise it has no inverse for."""
    generator = cupy.random.default_rng(0)
    record = noise.radial

    def radii() -> Any:
        assert record is not None
        gamma = generator.standard_gamma(record.shape, size=(len(out), 1))
        return (record.scale * gamma ** (1 / record.power)).astype("float32")

    def run() -> None:
        if family in ("gaussian", "l2"):
            generator.standard_normal(dtype=cupy.float32, out=out)
        elif family == "l1":
            generator.standard_exponential(dtype=cupy.float32, out=out)
        else:
            generator.random(dtype=cupy.float32, out=out)
        if family == "l2":
            cupy.multiply(out, radii() / cupy.linalg.norm(out, axis=1)[:, None], out=out)
        elif family == "l1":
            signs = generator.random(out.shape, dtype=cupy.float32) < 0.5
            factors = radii() / out.sum(axis=1)[:, None]
            cupy.multiply(cupy.where(signs, out, -out), factors, out=out)
        elif family == "linf":
            cupy.multiply(2 * out - 1, radii(), out=out)
        cupy.add(out, center, out=out)

    return run


def attempted(make: Callable[..., Callable[[], Any]], *arguments: Any) -> float:
    """Its time; infinity where this version of the library has not all of it."""
    try:
        return seconds(make(*arguments), warm=1, rounds=3)
    except (AttributeError, TypeError, ValueError, NotImplementedError, MemoryError) as error:
        say(f"  ({make.__name__}: {str(error).splitlines()[0][:70]})")
        return float("inf")
    finally:
        cupy.get_default_memory_pool().free_all_blocks()
        torch.cuda.empty_cache()


def draws(gpu: Any) -> None:
    out = cupy.empty((ROWS, DIM), "float32")
    center = cupy.linspace(0, 1, DIM, dtype="float32")
    written, words = limits(out)
    binds = "writes" if written < words else "words"
    say(
        f"draw, float32, d = {DIM}, center added{'G values/s':>14}  of the limit ({binds})"
        f"{'error':>9}  over the best of"
    )
    for family in ("gaussian", "l2", "l1", "linf", "mixed"):
        noise = cc.NOISES[family].with_rms(DIM, 0.5, 0.0 if family == "gaussian" else DIM / 3)

        def ours(noise: cc.Noise = noise) -> None:
            gpu.draw(noise, ROWS, 1, center=center, out=out)

        taken = seconds(ours)
        rate, limit, wrong = out.size / taken, min(written, words), error(noise, out, center)
        others = {"torch": attempted(by_torch, family, noise, out, center)}
        if family != "mixed":
            others["CuPy"] = attempted(by_cupy, family, noise, out, center)
        best = min(others, key=lambda name: others[name])
        say(
            f"  {family:36}{rate / 1e9:>13.0f}  {rate / limit:>21.0%}"
            f"{wrong:>9.0e}  {others[best] / taken:>5.1f} x {best}"
        )


def ratios(gpu: Any) -> None:
    n = 10**9
    say(f"fused log ratios, d = {DIM}")
    for noise, attack in (
        (cc.L2Noise(DIM, 1.0, 1000.0), "l2"), (cc.L1Noise(DIM, 1.0, 1000.0), "l1"),
        (cc.LinfNoise(DIM, 1.0, 1000.0), "linf"),
    ):  # fmt: skip
        shift = cc.worst_shift(noise, attack, 2 * noise.rms)
        taken = seconds(lambda: gpu.draw_log_ratio(noise, shift, n, 1), warm=1, rounds=3)  # noqa: B023
        say(f"  1e9 {noise.name + ', ' + attack:32}{taken:>10.3f} s")
    sample = [gpu.draw_log_ratio(noise, shift, n, 1)]
    taken = seconds(lambda: gpu.hinge_bound(sample[0], 0.9, 0.001), warm=1, rounds=3)
    say(f"  {'Hoeffding bound from 1e9':36}{taken:>10.3f} s")
    sample.clear()
    cupy.get_default_memory_pool().free_all_blocks()
    noise = cc.MixedNoise(DIM, 1.0, 300.0)
    shift = cc.worst_shift(noise, "linf", 0.01)
    taken = seconds(lambda: gpu.draw_log_ratio(noise, shift, 10**7, 1), warm=1, rounds=3)
    say(f"  {'1e7 mixed, linf':36}{taken:>10.3f} s")


def plain_loop(net: Any, x: Any, sigma: float, n: int, batch: int) -> Any:
    """Votes as Cohen et al.'s code counts them: fresh noise, a sum, labels to the host."""
    counts = np.zeros(10, dtype=int)
    with torch.no_grad():
        for _ in range(n // batch):
            many = x.repeat((batch, 1, 1, 1))
            labels = net(many + torch.randn_like(many) * sigma).argmax(1).cpu().numpy()
            for label in labels:
                counts[label] += 1
    return counts


def raced(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Times of contestants, one after the other in every round, the order flipped each time: the
    clock of the device falls as it warms."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for _ in range(rounds + 1):
        for name in order:
            times[name].append(seconds(contestants[name], warm=0, rounds=1))
        order.reverse()
    return {name: taken[1:] for name, taken in times.items()}


def spread(times: list[float], others: list[float]) -> float:
    """Half the distance of the quartiles of their ratio to the others' median."""
    ratios = np.array(times) / statistics.median(others)
    return float(np.subtract(*np.quantile(ratios, (0.75, 0.25)))) / 2


def overhead() -> None:
    torch.manual_seed(0)
    n, batch = 10_000, 1000
    image = np.random.default_rng(0).uniform(size=(1, 3, 32, 32)).astype(np.float32)
    pixels = np.rint(image * 255).astype("float32") / np.float32(255)
    x = torch.from_numpy(image).cuda()
    say(f"certify: {n} copies through ResNet-110, batch {batch}; over the forward passes alone")
    for channels_last, autocast in ((False, None), (True, "bfloat16")):
        net = cifar_resnet110(10).eval().cuda()
        options: dict[str, Any] = {"channels_last": channels_last, "autocast": autocast}
        fixed = x.repeat((batch, 1, 1, 1)) + 0.25 * torch.randn((batch, 3, 32, 32), device="cuda")
        loops: dict[str, Callable[[], Any]] = {}
        for family in ("gaussian", "l2"):
            noise = cc.NOISES[family].with_rms(DIM, 0.25, 0.0 if family == "gaussian" else 1000.0)
            smoothed = SmoothedClassifier(net, noise, 10, batch_size=batch, **options)
            loops[family] = lambda smoothed=smoothed: smoothed.counts(image, n, 1)
            if autocast is None:
                lattice = cc.Lattice("1/255")
                sound = SmoothedClassifier(net, noise, 10, batch_size=batch, sound=lattice)
                loops[f"{family}, sound"] = lambda sound=sound: sound.counts(pixels, n, 1)
                edges = cc.shell_thresholds(noise, cc.shells.MASSES)
                loops[f"{family}, shells"] = lambda smoothed=smoothed, edges=edges: (
                    smoothed.shell_counts(image, n, 1, edges)
                )

        def forwards(smoothed: Any = smoothed, fixed: Any = fixed) -> None:
            with torch.inference_mode():
                for _ in range(n // batch):
                    smoothed._scores(fixed).argmax(dim=1)

        if autocast is None:
            loops["as in Cohen et al."] = lambda net=net: plain_loop(net, x, 0.25, n, batch)
        loops = {"forward passes": forwards} | loops
        name = "bfloat16, channels last" if channels_last else "float32"
        taken = raced(loops, 12)
        bare = taken.pop("forward passes")
        middle, moved = statistics.median(bare), "from round to round"
        say(f"  {name + ', forward passes':36}{middle:>10.3f} s, {spread(bare, bare):.1%} {moved}")
        for label, each in taken.items():
            over = statistics.median(a / b for a, b in zip(each, bare, strict=True)) - 1
            say(f"    {label:34}{over:>10.1%}, {spread(each, bare):.1%} {moved}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    gpu = kernels.backend("gpu")
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    cuda = cupy.cuda.runtime.runtimeGetVersion()
    options.out.mkdir(parents=True, exist_ok=True)
    TABLE.append(options.out / (re.sub(r"\W+", "-", name.lower()) + ".txt"))
    say(f"{name}, {datetime.date.today()}, CUDA {cuda // 1000}.{cuda % 1000 // 10}, "
        f"CuPy {cupy.__version__}, torch {torch.__version__}")  # fmt: skip
    say("command: python bench/gpu.py")
    for part in (lambda: draws(gpu), lambda: ratios(gpu), overhead):
        part()
        cupy.get_default_memory_pool().free_all_blocks()


if __name__ == "__main__":
    main()
