"""The face of cert_core: which names it has, and that they load when first used, anywhere."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import subprocess
import sys
import warnings
from types import ModuleType

import pytest
from cases import public

import cert_core as cc

TOPICS = {name: getattr(cc, name) for name in cc.TOPICS}
MOVED = [(topic, name) for topic, names in cc.TOPICS.items() for name in names]


def told(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=300
    )
    assert not done.returncode, done.stderr
    return done.stdout


def test_the_face_is_the_names_at_the_top_and_the_topics() -> None:
    assert set(dir(cc)) == {*cc.__all__, *cc.TOPICS}
    assert len(cc.__all__) <= 55
    assert all(isinstance(module, ModuleType) for module in TOPICS.values())
    assert not set(cc.__all__) & {name for _, name in MOVED}
    with pytest.raises(AttributeError, match="lower_bond"):
        _ = cc.lower_bond


def test_no_name_is_that_of_a_module() -> None:
    """The module, once loaded, would stand where the name did."""
    for package in (cc, *(topic for topic in TOPICS.values() if hasattr(topic, "__path__"))):
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        names = cc.__all__ if package is cc else cc.TOPICS[package.__name__.split(".")[1]]
        assert not modules & set(names), package


@pytest.mark.parametrize(("topic", "name"), MOVED)
def test_a_name_of_a_topic_is_at_the_top_with_a_warning(topic: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"from cert_core.{topic} import {name}") as found:
        value = getattr(cc, name)
    assert value is getattr(TOPICS[topic], name)
    assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pickle.loads(b"ccert_core\n%s\n." % name.encode()) is value


def test_public_names_are_pickled_by_where_they_stand() -> None:
    for name, value in public().items():
        if callable(value):
            assert pickle.loads(pickle.dumps(value)) is value, name
            module = importlib.import_module(value.__module__)
            assert getattr(module, name) is value


def test_every_name_can_be_imported_first() -> None:
    """One a module, which is all that its import knows."""
    told(
        "import sys, cert_core\n"
        "of = {getattr(getattr(cert_core, n), '__module__', n): n for n in cert_core.__all__}\n"
        "for topic in cert_core.TOPICS: of[f'cert_core.{topic}'] = topic\n"
        "for name in of.values():\n"
        "    for loaded in [m for m in sys.modules if m.startswith('cert_core.')]:\n"
        "        if not loaded.startswith('cert_core.native'): del sys.modules[loaded]\n"
        "    for seen in [n for n in vars(cert_core) if n in dir(cert_core)]:\n"
        "        delattr(cert_core, seen)\n"
        "    exec(f'from cert_core import {name}')\n"
    )


def test_threads_may_use_the_face_at_once() -> None:
    """Each the names from another one on: no import waits for another in a circle."""
    out = told(
        "import sys, threading\n"
        "import cert_core as cc\n"
        "sys.setswitchinterval(1e-5)\n"
        "names, wrong, together = dir(cc), [], threading.Barrier(16)\n"
        "def use(first):\n"
        "    together.wait()\n"
        "    try:\n"
        "        for name in names[first:] + names[:first]: getattr(cc, name)\n"
        "    except BaseException as error: wrong.append(repr(error))\n"
        "threads = [threading.Thread(target=use, args=(4 * i,)) for i in range(16)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(wrong, cc.certified_radius(0.9, cc.Gaussian(2, 1.0), 'l2'))\n"
    )
    assert out.startswith("[] 1.28")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_a_fork_may_use_the_face_first() -> None:
    told(
        "import os, sys\n"
        "import cert_core as cc\n"
        "child = os.fork()\n"
        "right = 1.28 < cc.certified_radius(0.9, cc.Gaussian(2, 1.0), 'l2') < 1.29\n"
        "if not child: os._exit(not right)\n"
        "sys.exit(not right or os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
