"""Classifiers trained under noise, and the digits network, trained once and cached."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import cert_core as cc
from cert_core.errors import integer
from cert_models.data.datasets import Dataset, digits
from cert_models.files.outputs import refused, sweep, written
from cert_models.files.reading import first_line, reading
from cert_models.networks.architectures import (
    NormalizedNetwork,
    check_mask,
    digits_network,
    make_network,
    normalization,
    try_network,
    usable_device,
)
from cert_models.smooth.forward import scores_of
from cert_models.store.fingerprints import data_fingerprint

Progress = Callable[[int, float, float], None]
Tried = dict[str, int]  # after which epoch, and how many inputs held out were then right


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a training run depends on, beside its inputs.

    Attributes
    ----------
    arch, normalize : str, as make_network and normalization take
    noise : Noise added to every input, drawn anew at every step
    num_classes, epochs, batch_size, seed : int
    learning_rate : float, of Adam; a third of the peak of its one-cycle schedule
    augment : bool
        Shift images by up to 4 pixels and mirror half of them, as for CIFAR-10.
    """

    arch: str
    normalize: str
    noise: cc.Noise
    num_classes: int
    epochs: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    seed: int = 0
    augment: bool = False

    def __post_init__(self) -> None:
        for name, least in (("num_classes", 2), ("epochs", 1), ("batch_size", 1)):
            integer(name, getattr(self, name), least)
        cc.errors.seed(self.seed)
        rule, rate = "a number in (0, 1e30]", self.learning_rate  # three times that is a float32
        cc.errors.real("learning_rate", rate, rule, lambda x: 0 < x <= 1e30, remedy="try 0.001")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, for a checkpoint."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "noise": self.noise.to_dict()}


def train_under_noise(
    module: nn.Module,
    data: Dataset,
    noise: cc.Noise,
    *,
    epochs: int,
    seed: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    augment: bool = False,
    device: str | torch.device | None = None,
    state: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """Train a classifier on inputs with fresh noise at every step (Gaussian augmentation of
    Cohen et al. 2019, for any noise).

    Parameters
    ----------
    module : torch.nn.Module, changed in place
    data : Dataset
    noise : Noise, with dim the number of values of one input
        Noises that add nothing make a fresh copy of each input instead.
    epochs, seed, batch_size, learning_rate, augment : as in Recipe
    device : where to train (default: the CPU)
    state : dict, optional
        What save was given after some epoch: go on from there.  On one device the result
        is that of a run without a pause.
    save : callable, optional
        Called after every epoch with its state: epoch (done), state_dict, optimizer, schedule.
    progress : callable (epoch, loss, share of right labels), optional
        Called after every batch.

    Returns
    -------
    torch.nn.Module
        The module, in evaluation mode, on the CPU.

    Raises
    ------
    ValueError
        noise.dim is not the size of an input, the data set is empty, or the noise does not
        know a value of an input.
    """
    shape = data.x.shape[1:]
    if noise.dim != int(np.prod(shape)) or not len(data):
        raise ValueError(
            f"noise must have dim = {int(np.prod(shape))}, the size of one of the {len(data)} "
            f"inputs, got {noise.dim}: use a noise of that dim, and some inputs"
        )
    data.check_known(noise)
    batches = -(-len(data) // batch_size)
    course = _Course(module, usable_device(device or "cpu"), learning_rate, epochs, batches)
    done = 0 if state is None else course.resume(state)
    order = np.random.default_rng(seed)
    orders = [order.permutation(len(data)) for _ in range(epochs)]

    def batch(rows: Any, drawn: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = data.x[rows]
        if augment:
            x = shifted_and_mirrored(x, np.random.default_rng([seed, drawn]))
        copies = torch.from_numpy(one_copy_each(noise, x, seed, drawn)).reshape(-1, *shape)
        return copies, torch.from_numpy(data.y[rows])

    module.train()
    for epoch in range(done, epochs):
        parts = np.array_split(orders[epoch], batches)
        starts = epoch * len(data) + np.cumsum([0, *map(len, parts)])
        for x, y in _one_ahead(batch, zip(parts, starts[:-1].tolist(), strict=True)):
            loss, right = course.step(x, y)
            if progress is not None:
                progress(epoch, loss.item(), right.item())
        if not loss.isfinite():
            rule, remedy = "such that the loss stays finite", "lower it, or mend the network"
            got = f"{learning_rate}, a loss of {loss.item()} in epoch {epoch + 1}"
            raise cc.errors.fail("learning_rate", rule, got, remedy)
        if save is not None:
            save(course.state(epoch + 1))
    return module.cpu().eval()


class _Course:
    """A module in training: its optimizer and schedule, and what is saved of them."""

    def __init__(
        self, module: nn.Module, place: torch.device, rate: float, epochs: int, batches: int
    ) -> None:
        self.module, self.place, self.epochs, self.batches = (
            module.to(place),
            place,
            epochs,
            batches,
        )
        self.optimizer = torch.optim.Adam(module.parameters(), lr=rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, 3 * rate, epochs * batches
        )

    def resume(self, state: dict[str, Any]) -> int:
        """Go on from what was saved; returns the epochs done."""
        try:
            done = integer("epoch", state["epoch"], 1, self.epochs)
            self.module.load_state_dict(state["state_dict"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            steps = self.schedule.last_epoch
        except Exception as error:  # what a file says may be anything
            raise _no_state(state, f"{type(error).__name__}: {first_line(error)}") from error
        if steps != done * self.batches:
            raise _no_state(state, f"{steps} steps in {done} epochs of {self.batches}")
        return done

    def step(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of the optimizer; the loss, and the share of right labels before it."""
        labels = y.to(self.place)
        scores = scores_of(self.module(x.to(self.place)))
        loss = nn.functional.cross_entropy(scores, labels)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        return loss, (scores.argmax(dim=1) == labels).float().mean()

    def state(self, epoch: int) -> dict[str, Any]:
        """What resume goes on from after so many epochs."""
        return {
            "epoch": epoch,
            "state_dict": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }


def _one_ahead(make: Callable[..., Any], given: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """make of each of the given, the next made by a thread while one is used."""
    with ThreadPoolExecutor(1) as ahead:
        waiting = None
        for arguments in given:
            made, waiting = waiting, ahead.submit(make, *arguments)
            if made is not None:
                yield made.result()
        if waiting is not None:
            yield waiting.result()


def one_copy_each(noise: cc.Noise, x: Any, seed: int, start: int) -> Any:
    """(m, dim) float32: sample start + i of the noise, as a copy of input i."""
    inputs = x.reshape(len(x), noise.dim)
    if not isinstance(noise, cc.channels.Channel):
        return cc.draw(noise, len(x), seed, start=start) + inputs.astype(np.float32, copy=False)
    copies = np.empty(inputs.shape, np.float32)
    for i, center in enumerate(inputs):
        cc.draw(noise, 1, seed, start=start + i, center=center, out=copies[i : i + 1])
    return copies


def _no_state(state: dict[str, Any], got: str) -> ValueError:
    where = f" in {state['file']!r}" if "file" in state else ""
    return ValueError(
        f"state must be that of this training after one of its epochs, got another{where} ({got}): "
        "begin anew, or restore the checkpoint from a copy"
    )


def shifted_and_mirrored(x: Any, rng: np.random.Generator) -> Any:
    """Images (m, channels, rows, columns) shifted by up to 4 pixels, half of them mirrored."""
    if x.ndim != 4:
        raise ValueError(
            f"augment must be for images (channels, rows, columns), got inputs of shape "
            f"{x.shape[1:]}: leave it out"
        )
    _, _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)))
    down, right = rng.integers(0, 9, size=(2, len(x)))
    mirrored = rng.integers(0, 2, size=len(x)) == 1
    rows = down[:, None] + np.arange(height)
    columns = right[:, None] + np.where(mirrored[:, None], np.arange(width)[::-1], np.arange(width))
    image = np.arange(len(x))[:, None, None, None]
    channel = np.arange(x.shape[1])[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def right_of(
    module: nn.Module, data: Dataset, noise: cc.Noise, *, seed: int, start: int, batch_size: int
) -> tuple[int, int]:
    """How many inputs a network gives their label, as they are and each with one draw of the
    noise: start, start + 1, ... of this seed; the network is as it was afterwards."""
    place, training = next(module.parameters()).device, module.training
    module.eval()
    clean = noisy = 0
    with torch.inference_mode():
        for low in range(0, len(data), batch_size):
            rows = np.arange(low, min(low + batch_size, len(data)))
            x, y = data.x[rows], torch.from_numpy(data.y[rows]).to(place)
            copies = one_copy_each(noise, x, seed, start + low).reshape(x.shape)
            clean, noisy = (
                right + _right(scores_of(module(seen.to(place))), y)
                for right, seen in (
                    (clean, torch.from_numpy(np.array(x, np.float32))),
                    (noisy, torch.from_numpy(copies)),
                )
            )
    module.train(training)
    return clean, noisy


def _right(scores: torch.Tensor, y: torch.Tensor) -> int:
    """How many rows have their label ahead; a row with NaN says none."""
    return int(((scores.argmax(dim=1) == y) & ~scores.isnan().any(dim=1)).sum())


def train_checkpoint(
    path: str | Path,
    data: Dataset,
    recipe: Recipe,
    *,
    resume: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
    held_out: Dataset | None = None,
    check_every: int = 5,
    tried: Callable[[Tried], None] | None = None,
) -> NormalizedNetwork:
    """Train a network by a recipe and keep it in a checkpoint, written after every epoch.

    The file is {arch, state_dict, epoch, optimizer} as published ones are, with the recipe,
    so `cert certify` needs no --normalize, and --arch only for an import path.

    Parameters
    ----------
    path : file to write
    data : Dataset
    recipe : Recipe
    resume : bool
        Go on from the file if it exists.
    device, progress : as in train_under_noise
    held_out : Dataset, optional
        Inputs that are not trained on: after every check_every epochs, and the last, the file is
        told how many of them are right, as they are and each with one draw of the noise, always
        the same (entry held_out: inputs, data, and a row a trial).
    check_every : int >= 1
    tried : callable ({epoch, clean, noisy}), optional
        Called after every trial.

    Raises
    ------
    ValueError
        The file exists and resume is false, or it is of another recipe.
    """
    integer("check_every", check_every, 1)
    target = Path(path).resolve()  # whatever folder the network's code goes to
    sweep(target.parent)  # also where nothing is left to train
    state = _saved_state(target, recipe, data, held_out) if resume and target.exists() else None
    if state is None and (target.exists() or not target.parent.is_dir()):
        raise ValueError(
            "out must be a file that does not exist yet, in a folder that does, "
            f"got {str(path)!r}: choose another, or go on with --resume"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = make_network(recipe.arch, recipe.num_classes)
    module = NormalizedNetwork(normalization(recipe.normalize, recipe.arch), network)
    check_mask(module, recipe.noise)
    if len(data) and not 0 <= data.y.min() <= data.y.max() < recipe.num_classes:
        raise ValueError(
            f"num_classes must be above the largest label, {data.y.max()}, "
            f"got {recipe.num_classes}: pass more --classes"
        )
    try_network(module, torch.from_numpy(data.x[:1]).float(), recipe.num_classes)
    described = {
        "arch": recipe.arch, "normalize": recipe.normalize, "data": data.name,
        "recipe": recipe.to_dict(), "data_fingerprint": _digest(data),
    }  # fmt: skip
    trials: list[Tried] = []
    if held_out is not None:
        _check_held_out(held_out, data, recipe)
        trials += state["held_out"]["tried"] if state is not None else []
        described["held_out"] = {
            "data": held_out.name, "inputs": len(held_out), "fingerprint": _digest(held_out),
            "tried": trials,
        }  # fmt: skip

    own = state is not None  # the file: else another training wrote it since
    checked = {*range(check_every, recipe.epochs, check_every), recipe.epochs}

    def save(state: dict[str, Any]) -> None:
        nonlocal own
        if held_out is not None and state["epoch"] in checked:
            clean, noisy = right_of(
                module, held_out, recipe.noise, seed=recipe.seed, batch_size=recipe.batch_size,
                start=recipe.epochs * len(data),  # behind what is trained on
            )  # fmt: skip
            found = {"epoch": state["epoch"], "clean": clean, "noisy": noisy}
            trials.append(found)
            if tried is not None:
                tried(found)
        try:
            with written(target, over=own) as new:
                torch.save({**described, **state}, new)
        except FileExistsError:
            raise refused(path, "another training writes it") from None
        own = True

    train_under_noise(
        module, data, recipe.noise, epochs=recipe.epochs, seed=recipe.seed,
        batch_size=recipe.batch_size, learning_rate=recipe.learning_rate, augment=recipe.augment,
        device=device, state=state, save=save, progress=progress,
    )  # fmt: skip
    return module


def _check_held_out(held_out: Dataset, data: Dataset, recipe: Recipe) -> None:
    """Refuse what says nothing of a training: its own inputs, or those of another network."""
    rule, remedy = "inputs that are not trained on", "name others, or a share of them"
    if _digest(held_out) == _digest(data):
        raise cc.errors.fail("held_out", rule, f"{held_out.name}, all of the data", remedy)
    if held_out.x.shape[1:] != data.x.shape[1:]:
        rule = f"inputs of shape {data.x.shape[1:]}, as those that are trained on"
        raise cc.errors.fail("held_out", rule, held_out.x.shape[1:], "name others")
    held_out.check_known(recipe.noise)
    held_out.check_classes(recipe.num_classes)


def _saved_state(
    path: Path, recipe: Recipe, data: Dataset, held_out: Dataset | None
) -> dict[str, Any]:
    """The state in a checkpoint of this recipe and data."""
    with reading("out", "a checkpoint of cert train to resume", path, "choose another file"):
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
        saved = {**state["recipe"], "data": state["data"]}
        digest = state.get("data_fingerprint", "")  # files written before do not say
        kept = dict(state.get("held_out") or {"tried": []})
        kept["tried"] = [dict(each) for each in kept["tried"]]
    for name, value in {**recipe.to_dict(), "data": data.name}.items():
        if saved.get(name) != value:
            raise cc.errors.fail(
                f"{name}",
                f"{saved.get(name)!r}, as in the run to resume",
                value,
                "pass the same options, or write to another file",
            )
    if kept.get("fingerprint") != (None if held_out is None else _digest(held_out)):
        had = f"the {kept['inputs']} inputs held out" if "inputs" in kept else "none"
        got = "none" if held_out is None else f"{len(held_out)} others of {held_out.name}"
        raise cc.errors.fail("held_out", f"{had}, as in the run to resume", got, "pass the same")
    if digest and digest != _digest(data):
        raise ValueError(
            f"data must be that of the run to resume, got others under the name {data.name!r}: "
            "restore them, or write to another file"
        )
    return {**state, "held_out": kept, "file": str(path)}


def _digest(data: Dataset) -> str:
    """What tells whether data are still the same: of inputs that are made anew at each reading,
    as by random transforms, their labels and shape alone."""
    found = data_fingerprint(data)
    if isinstance(data.x, np.ndarray) or found == data_fingerprint(data):
        return found
    return data_fingerprint(replace(data, x=np.zeros((len(data), 1), np.float32)))


def cache_folder() -> Path:
    """The user's cache folder of this package.

    Raises
    ------
    ValueError
        The system knows no home of the user, and CERT_CACHE names no folder.
    """
    from platformdirs import user_cache_path

    try:
        return Path(os.environ.get("CERT_CACHE") or user_cache_path("cert"))
    except RuntimeError as error:
        raise cc.errors.fail(
            "CERT_CACHE", "a folder where there is no home", first_line(error), "set it"
        ) from None


def digits_cnn(sigma: float = 0.25, *, progress: Progress | None = None) -> nn.Module:
    """The digits network trained under Gaussian noise of standard deviation sigma.

    Trained once (seeded, under a minute on two cores), kept in the cache folder behind a
    file lock, so that processes started together train it once.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, on the CPU.
    """
    from filelock import FileLock

    recipe: dict[str, Any] = {"sigma": sigma, "epochs": 40, "seed": 0, "version": 1}
    name = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"digits-cnn-{name}.pt"
    with FileLock(f"{path}.lock"):
        module = digits_network()
        if not _filled(module, path):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe["seed"])
                module = digits_network()
            threads = torch.get_num_threads()
            # no slower for so small a network, and 30 times faster where the cores are busy
            torch.set_num_threads(1)
            try:
                train_under_noise(
                    module, digits("train"), cc.Gaussian(64, sigma),
                    epochs=recipe["epochs"], seed=recipe["seed"], progress=progress,
                )  # fmt: skip
            finally:
                torch.set_num_threads(threads)
            partial = path.with_suffix(".tmp")
            torch.save(module.state_dict(), partial)
            partial.replace(path)
    return module.eval()


def _filled(module: nn.Module, path: Path) -> bool:
    """Whether a file had the parameters; one that was cut short is as good as none."""
    try:
        module.load_state_dict(torch.load(path, weights_only=True))
    except Exception:  # a damaged file may raise anything
        return False
    return True
