"""Audits: what is found, what is excluded, and that the store stays as it was."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import cert_core as cc
from cert_models.audit import audit_run, differing, draw_inputs, wrong_at_most
from cert_models.cli import main
from cert_models.store.counts import CountStore
from cert_models.store.runs import (
    SCORE_UNIT,
    FixedPlan,
    Plan,
    Run,
    ScorePlan,
    SequentialPlan,
    Votes,
)

NOISE = cc.Gaussian(6, 0.5)
TEST = cc.sequential.plan_at(NOISE, "l2", [0.1], n_max=400, alpha=0.01, n0=10, first=100, ratio=2)
FIXED, SCORES, SEQUENTIAL = FixedPlan(10, 300), ScorePlan(2, 4), SequentialPlan(TEST)
INPUTS = 20
MODELS = """
import numpy as np, torch

def labels(batch):
    return (batch.mean(axis=(1, 2)) > 0.5).astype(int) + (batch[:, 0, 0] > 0.9)

def scores(batch):
    mean = batch.mean(axis=(1, 2)).clip(0, 1)
    return np.stack([mean, 1 - mean, 0 * mean], axis=1)

def other(batch):
    return (batch.mean(axis=(1, 2)) > 0.6).astype(int)

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 3)).eval()
"""
RUNS = {
    "fixed": ["audited:labels"],
    "early": ["audited:labels", "--at", "0.01,0.02"],
    "until": ["audited:labels", "--until", "0.3"],
    "soft": ["audited:scores", "--votes", "soft"],
    "net": ["audited:net"],
    "softmax": ["audited:net", "--votes", "soft"],
    "half": ["audited:net", "--autocast", "bfloat16"],
}


# What is excluded.


def by_enumeration(inputs: int, drawn: int, wrong: int, level: Fraction) -> int:
    """The largest D under which so few wrong ones are drawn with a chance above the level."""
    sets = list(combinations(range(inputs), drawn))

    def chance(among: int) -> Fraction:
        return Fraction(sum(sum(i < among for i in s) <= wrong for s in sets), len(sets))

    return max(among for among in range(inputs + 1) if chance(among) > level)


@pytest.mark.parametrize("inputs", range(1, 9))
def test_the_bound_is_that_of_all_draws_enumerated(inputs: int) -> None:
    for drawn in range(1, inputs + 1):
        for wrong in range(drawn + 1):
            for confidence in (0.05, 0.5, 0.75, 0.95, 0.999):
                level = 1 - Fraction(str(confidence))
                limit = inputs - drawn + wrong  # the others drawn are right
                expected = min(by_enumeration(inputs, drawn, wrong, level), limit)
                assert wrong_at_most(inputs, drawn, wrong, confidence) == expected


@pytest.mark.parametrize(("inputs", "drawn"), [(40, 8), (500, 5), (10_000, 100), (10_000, 9000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_the_bound_holds_as_often_as_it_says(inputs: int, drawn: int, confidence: float) -> None:
    """Against SciPy's law: at the bound the chance is above the level, one further it is not;
    so it misses with a chance of the level at most, whatever is wrong."""
    for wrong in (0, 1, 3):
        bound = wrong_at_most(inputs, drawn, wrong, confidence)
        at, beyond = (stats.hypergeom.cdf(wrong, inputs, d, drawn) for d in (bound, bound + 1))
        assert at > (1 - confidence) * (1 - 1e-9)
        assert beyond < (1 - confidence) * (1 + 1e-9)


def test_known_numbers() -> None:
    """All of them drawn: no doubt.  One of two: a fair coin.  100 of many: about 3 %."""
    assert [wrong_at_most(7, 7, k, 0.999) for k in range(8)] == list(range(8))
    assert [wrong_at_most(2, 1, 0, c) for c in (0.49, 0.5, 0.51)] == [0, 0, 1]
    assert wrong_at_most(100_000, 100, 0, 0.95) == pytest.approx(2950, abs=15)


def test_every_input_is_drawn_as_often() -> None:
    """In 4000 draws of 5 of 20 the counts are within 6 deviations of 1000, and pairs are too."""
    draws = np.zeros((4000, 20), dtype=int)
    for seed in range(4000):
        drawn = draw_inputs(range(100, 120), 5, seed)
        assert drawn == sorted(set(drawn))
        assert len(drawn) == 5
        draws[seed, np.array(drawn) - 100] = 1
    pairs = draws.T @ draws
    both = 4000 * 5 * 4 / (20 * 19)
    assert abs(np.diag(pairs) - 1000).max() < 6 * (4000 * 0.25 * 0.75) ** 0.5
    assert abs(pairs - both)[~np.eye(20, dtype=bool)].max() < 6 * both**0.5


def test_a_draw_is_of_the_inputs_and_the_seed_alone() -> None:
    assert draw_inputs(range(50), 5, 1) == draw_inputs(reversed(range(50)), 5, 1)
    assert draw_inputs(range(50), 5, 1) != draw_inputs(range(50), 5, 2)
    assert set(draw_inputs(range(50), 5, 1)) < set(draw_inputs(range(50), 9, 1))
    assert draw_inputs(range(10**4), 3, 7) == [898, 9185, 9234]  # on any machine, for good


# What differs.


def votes(
    selection: list[int], estimation: list[int], looks: tuple[int, ...] | None = None,
    index: int = 0, scores: tuple[int, ...] | None = None,
) -> Votes:  # fmt: skip
    return Votes(
        index=index, label=0, selection=np.array(selection), estimation=np.array(estimation),
        looks=looks, scores=scores,
    )  # fmt: skip


def scored(selection: list[int], estimation: list[int], scores: tuple[int, ...]) -> Votes:
    return votes(selection, estimation, scores=scores)


U = SCORE_UNIT
DIFFERING = [
    ("equal", FIXED, votes([9, 1], [200, 100]), votes([9, 1], [200, 100]), 0),
    ("selection", FIXED, votes([9, 1], [200, 100]), votes([8, 2], [200, 100]), 1),
    ("estimation", FIXED, votes([9, 1], [200, 100]), votes([9, 1], [197, 103]), 3),
    ("both", FIXED, votes([9, 1], [200, 100]), votes([1, 9], [100, 200]), 108),
    ("three classes", FIXED, votes([9, 1, 0], [200, 50, 50]), votes([9, 1, 0], [200, 52, 48]), 2),
    ("equal scores", SCORES, scored([2 * U, 0], [10, 0], (1, 2, 3, 4)),
     scored([2 * U, 0], [10, 0], (1, 2, 3, 4)), 0),
    ("two scores, one sum", SCORES, scored([2 * U, 0], [10, 0], (1, 2, 3, 4)),
     scored([2 * U, 0], [10, 0], (2, 1, 3, 4)), 2),
    ("a sum of scores", SCORES, scored([2 * U, 0], [10, 0], (1, 2, 3, 4)),
     scored([2 * U - 1, 0], [10, 0], (1, 2, 3, 4)), 1),
    ("more than one score's sum", SCORES, scored([2 * U, 0], [10, 0], (1, 2, 3, 4)),
     scored([U - 1, 0], [10, 0], (1, 2, 3, 4)), 2),
    ("scores of another class", SCORES, scored([9, 8], [10, 0], (1, 2, 3, 4)),
     scored([8, 9], [0, 10], (1, 2, 3, 4)), 5),
    ("equal paths", SEQUENTIAL, scored([9, 1], [150, 50], (80, 150)),
     votes([9, 1], [150, 50], (80, 150)), 0),
    ("a look", SEQUENTIAL, votes([9, 1], [150, 50], (80, 150)),
     votes([9, 1], [150, 50], (79, 150)), 2),
    ("all looks", SEQUENTIAL, votes([9, 1], [150, 50], (80, 150)),
     votes([9, 1], [149, 51], (79, 149)), 1),
    ("the last look", SEQUENTIAL, votes([9, 1], [150, 50], (80, 150)),
     votes([9, 1], [149, 51], (80, 149)), 1),
    ("classes beside the path", SEQUENTIAL, votes([9, 1, 0], [150, 30, 20], (80, 150)),
     votes([9, 1, 0], [150, 20, 30], (80, 150)), 10),
    ("selection of a path", SEQUENTIAL, votes([9, 1], [150, 50], (80, 150)),
     votes([8, 2], [150, 50], (80, 150)), 1),
    ("stopped earlier", SEQUENTIAL, votes([9, 1], [150, 50], (80, 150)),
     votes([9, 1], [81, 19], (81,)), 101),
    ("stopped later", SEQUENTIAL, votes([9, 1], [81, 19], (81,)),
     votes([9, 1], [150, 50], (80, 150)), 101),
    ("stopped elsewhere, votes of the rest", SEQUENTIAL, votes([9, 1, 0], [60, 40, 0], (60,)),
     votes([9, 1, 0], [120, 0, 80], (60, 120)), 140),
    ("another class", SEQUENTIAL, votes([6, 4], [150, 50], (80, 150)),
     votes([4, 6], [50, 150], (20, 50)), 202),
    ("another class, stopped elsewhere", SEQUENTIAL, votes([6, 4], [80, 20], (80,)),
     votes([4, 6], [50, 150], (20, 50)), 202),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "stored", "counted", "expected"),
    [row[1:] for row in DIFFERING], ids=[row[0] for row in DIFFERING],
)  # fmt: skip
def test_votes_that_differ(plan: Plan, stored: Votes, counted: Votes, expected: int) -> None:
    assert differing(stored, counted, plan) == expected
    assert differing(counted, stored, plan) == expected


def run_of(plan: Plan) -> Run:
    return Run(
        plan=plan,
        noise=NOISE,
        seed=0,
        batch_size=100,
        num_classes=2,
        model="net",
        model_fingerprint="m",
        data="digits",
        data_fingerprint="d",
        attack="l2",
        alpha=0.01,
    )


def path_of(index: int) -> Votes:
    """Votes of inputs that stop at the look of 100, 200 or 400, a third each."""
    looks = TEST.looks[: 1 + index % 3]
    path = tuple(look * 6 // 10 for look in looks)
    return votes([9, 1], [path[-1], looks[-1] - path[-1]], path, index)


def audited(path: Path, recount: Callable[[int], Votes], *, inputs: int = 12, **how: Any) -> Any:
    """The audit of twelve such inputs, of 12 * (100 + 200 + 400) / 3 + 120 votes."""
    with CountStore(path) as store:
        if "a" not in store.runs():
            store.begin("a", run_of(SEQUENTIAL))
            with store.transaction():
                for index in range(inputs):
                    store.add("a", path_of(index))
        given = {"share": 1.0, "seed": 0, "confidence": 0.95} | how
        return audit_run(
            store, "a", np.zeros(inputs), lambda drawn: map(recount, drawn[::-1]), **given
        )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("allow", [0, 30, 300])
@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_what_is_unseen_may_be_wrong_wherever_it_is_most(
    tmp_path: Path, seed: int, allow: int, wrong: int
) -> None:
    """The first inputs drawn are wrong in 5 votes more than is allowed, or in all."""
    sizes = [10 + (100, 200, 400)[i % 3] for i in range(12)]
    drawn = draw_inputs(range(12), 6, seed)
    differ = [min(allow + 5, int(path_of(i).estimation[0])) for i in drawn[:wrong]]

    def recount(index: int) -> Votes:
        v = path_of(index)
        if index not in drawn[:wrong]:
            return v
        other = differ[drawn.index(index)]
        looks = tuple(max(0, n - other) for n in v.looks or ())
        return dataclasses.replace(
            v, estimation=v.estimation + np.array([-other, other]), looks=looks
        )

    found = audited(tmp_path / "s.db", recount, share=0.5, seed=seed, allow=allow)
    assert (found.inputs, found.votes, found.drawn) == (12, 2920, tuple(drawn))
    assert found.recounted == sum(sizes[i] for i in drawn)
    assert [each.votes for each in found.differences] == differ
    assert len(found.wrong) == sum(d > allow for d in differ)
    assert found.passed == (not found.wrong)
    assert found.wrong_at_most == wrong_at_most(12, 6, len(found.wrong), 0.95)
    hidden = found.wrong_at_most - len(found.wrong)
    unseen = [sizes[i] for i in range(12) if i not in drawn]
    most = max(
        sum(size if i in chosen else min(allow, size) for i, size in enumerate(unseen))
        for chosen in combinations(range(6), hidden)
    )
    assert found.wrong_votes_at_most == sum(differ) + most


def test_differences_up_to_what_is_allowed_are_shown_and_counted(tmp_path: Path) -> None:
    def recount(index: int) -> Votes:
        """Input 4 differs in 3 votes, input 7 in 8."""
        other = {4: 3, 7: 8}.get(index, 0)
        v = path_of(index)
        looks = (*v.looks[:-1], v.looks[-1] - other)  # type: ignore[index]
        return dataclasses.replace(
            v, estimation=v.estimation + np.array([-other, other]), looks=looks
        )

    for allow, wrong in ((0, (4, 7)), (2, (4, 7)), (3, (7,)), (7, (7,)), (8, ())):
        found = audited(tmp_path / "s.db", recount, allow=allow)
        assert [(each.index, each.votes) for each in found.differences] == [(4, 3), (7, 8)]
        assert found.wrong == wrong
        assert found.passed == (not wrong)
        assert (found.wrong_at_most, found.wrong_votes_at_most) == (len(wrong), 11)


def test_no_more_votes_are_wrong_than_there_are(tmp_path: Path) -> None:
    """Looks 100, 200, 400 counted again to 400, 100, 200: of 110 votes 110 can be wrong."""
    found = audited(tmp_path / "s.db", lambda i: dataclasses.replace(path_of(i + 2), index=i))
    assert [each.votes for each in found.differences] == 4 * [300, 100, 200]
    assert found.wrong_votes_at_most == 4 * (110 + 100 + 200)


def test_inputs_drawn(tmp_path: Path) -> None:
    """A share is rounded up, as it is written; --max bounds it."""

    def drawn(**how: Any) -> int:
        return len(audited(tmp_path / "s.db", path_of, **how).drawn)

    assert [drawn(share=s) for s in (1e-9, 1 / 12, 0.09, 0.25, 0.251, 1)] == [1, 1, 2, 3, 4, 12]
    assert [drawn(share=1, most=m) for m in (1, 5, 12, 99)] == [1, 5, 12, 12]
    found = audited(tmp_path / "hundred.db", path_of, inputs=100, share=0.07)
    assert len(found.drawn) == 7  # though 0.07 * 100 is above, in floats


# The command.


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store of runs of every kind, its data, and the models."""
    folder = tmp_path_factory.mktemp("audit")
    x = np.random.default_rng(0).uniform(size=(INPUTS, 2, 3)).astype(np.float32)
    y = (x.mean(axis=(1, 2)) > 0.5).astype(int)
    np.savez(folder / "data.npz", x=x, y=y)
    np.savez(folder / "other.npz", x=x[:, ::-1], y=y)
    (folder / "audited.py").write_text(MODELS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        for name, (model, *more) in RUNS.items():
            assert main([
                "certify", "--data", "data.npz", "--noise", "laplace", "--b", "0.03", "--attack",
                "l1", "--classes", "3", "--n0", "20", "--n", "300", "--quiet", "--store",
                "made.db", "--run", name, "--model", model, *more,
            ]) == 0  # fmt: skip
        yield folder
    sys.modules.pop("audited", None)


@pytest.fixture
def store(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of that store, in the folder of the data."""
    monkeypatch.chdir(made)
    path = tmp_path / "s.db"
    path.write_bytes(Path("made.db").read_bytes())
    return str(path)


def audit(store: str, run: str, *more: str, model: str = "", data: str = "data.npz") -> list[str]:
    model = model or RUNS[run][0]
    return [
        "audit", "--store", store, "--run", run, "--data", data, "--model", model, "--quiet", *more,
    ]  # fmt: skip


def stored(store: str, run: str) -> list[Votes]:
    with CountStore(store, readonly=True) as opened:
        return list(opened.votes(run, type(opened.runs()[run].plan)))


def rewrite(store: str, run: str, changed: Votes | None = None, **fields: Any) -> None:
    """The store as it is with this run alone, other votes of one input or another record."""
    kept = stored(store, run)
    with CountStore(store, readonly=True) as old:
        record = dataclasses.replace(old.runs()[run], **fields)
    Path(store).unlink()
    with CountStore(store) as new, new.transaction():
        new.begin(run, record)
        for v in kept:
            new.add(run, changed if changed and changed.index == v.index else v)


def moved(counts: Any, source: int, target: int) -> Any:
    changed = counts.copy()
    changed[source] -= 1
    changed[target] += 1
    return changed


def in_selection(v: Votes) -> Votes:
    top = int(v.selection.argmax())
    return dataclasses.replace(v, selection=moved(v.selection, top, (top + 1) % len(v.selection)))


def in_estimation(v: Votes) -> Votes:
    top = int(v.selection.argmax())
    looks = v.looks and (*v.looks[:-1], v.looks[-1] - 1)
    return dataclasses.replace(
        v, estimation=moved(v.estimation, top, (top + 1) % len(v.estimation)), looks=looks or None
    )


def in_path(v: Votes) -> Votes:
    """One vote of the first stretch cast for another class, one of the second for this."""
    assert v.looks is not None
    return dataclasses.replace(v, looks=(v.looks[0] - 1, *v.looks[1:]))


def in_score(v: Votes) -> Votes:
    """The least that a score can differ."""
    assert v.scores is not None
    change = -1 if v.scores[3] else 1
    estimation = v.estimation.copy()
    estimation[v.selection.argmax()] += change
    scores = (*v.scores[:3], v.scores[3] + change, *v.scores[4:])
    return dataclasses.replace(v, estimation=estimation, scores=scores)


def in_mean(v: Votes) -> Votes:
    """The least that the scores of the selection can differ."""
    selection = v.selection.copy()
    selection[selection.argmax()] -= 1
    return dataclasses.replace(v, selection=selection)


FORGED = [
    ("fixed", in_selection, 1), ("fixed", in_estimation, 1),
    ("net", in_selection, 1), ("net", in_estimation, 1),
    ("early", in_selection, 1), ("early", in_path, 2),
    ("until", in_selection, 1), ("until", in_path, 2), ("until", in_estimation, 1),
    ("soft", in_score, 1), ("soft", in_mean, 1), ("softmax", in_score, 1),
]  # fmt: skip


@pytest.mark.parametrize("run", RUNS)
def test_a_run_audited_whole_passes(
    store: str, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(store).read_bytes()
    assert main([*audit(store, run), "--share", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is True
    assert found["drawn"] == list(range(INPUTS))
    assert found["votes"] == found["recounted"]
    samples = 320 if run not in ("early", "until") else 20
    sizes = [
        samples + (0 if samples == 320 else int(v.estimation.sum())) for v in stored(store, run)
    ]
    assert found["votes"] == sum(sizes)
    assert (found["wrong_at_most"], found["wrong_votes_at_most"]) == (0, 0)
    assert Path(store).read_bytes() == before


@pytest.mark.parametrize("run", ["fixed", "early", "soft"])
def test_the_statement_of_a_share(store: str, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """5 of 20: of 8 wrong ones none is drawn with a chance of .0511, of 9 with one of .0298."""
    chances = [stats.hypergeom.pmf(0, INPUTS, d, 5) for d in range(INPUTS + 1)]
    most = max(d for d, chance in enumerate(chances) if chance > 0.05)
    assert most == 8
    assert main([*audit(store, run), "--share", "0.25", "--seed", "3"]) == 0
    text = capsys.readouterr().out
    assert f"run {run!r} of {store}: 20 inputs of the data's 20, " in text
    assert "5 inputs, drawn by seed 3, counted again whole: " in text
    assert "with confidence 0.95 at most 8 of 20 inputs (right: 60.0%) are wrong, and" in text
    if run != "early":
        assert f"at most {8 * 320} of {20 * 320} votes (right: 60.0%)" in text


@pytest.mark.parametrize(
    ("run", "change", "differ"), FORGED, ids=[f"{run} {f.__name__}" for run, f, _ in FORGED]
)
def test_one_vote_is_found(
    store: str, run: str, change: Callable[[Votes], Votes], differ: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Always where all is recounted, and else when its input is drawn."""
    some = [v for v in stored(store, run) if len(v.looks or (0, 0)) > 1]
    victim = some[len(some) // 2]
    rewrite(store, run, change(victim))
    assert main([*audit(store, run), "--share", "1", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    (difference,) = found["differences"]
    assert (difference["index"], difference["votes"]) == (victim.index, differ)
    assert found["wrong"] == [victim.index]
    assert (found["wrong_at_most"], found["wrong_votes_at_most"]) == (1, differ)
    for hit in (True, False):
        seed = next(
            s for s in range(99) if (victim.index in draw_inputs(range(INPUTS), 10, s)) == hit
        )
        assert main([*audit(store, run), "--share", "0.5", "--seed", str(seed)]) == int(hit)
        assert (f"input {victim.index}: {differ} vote" in capsys.readouterr().out) == hit
    allowed = [*audit(store, run), "--share", "1", "--allow", str(differ)]
    assert main(allowed) == 0
    text = capsys.readouterr().out
    assert f"input {victim.index}: {differ} votes differ" in text
    assert f"wrong in more than {differ} votes each" in text


def test_scores_show_how_far_they_differ(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(store, "soft", in_score(stored(store, "soft")[4]))
    assert main([*audit(store, "soft"), "--share", "1"]) == 1
    assert "input 4: 1 votes differ, scores by up to 0.000016: WRONG" in capsys.readouterr().out


def test_true_classes_are_compared_of_all_inputs(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in (6, 17):
        v = stored(store, "fixed")[index]
        rewrite(store, "fixed", dataclasses.replace(v, label=1 - v.label))
    drawn = next(s for s in range(99) if not {6, 17} & set(draw_inputs(range(INPUTS), 2, s)))
    assert main([*audit(store, "fixed"), "--share", "0.1", "--seed", str(drawn)]) == 1
    assert "not the data's: 2 WRONG, the first of input 6" in capsys.readouterr().out


@pytest.mark.parametrize("other", [{"seed": 1}, {"noise": cc.Laplace(6, 0.06)}], ids=str)
def test_a_run_that_was_not_so_is_found(
    store: str, other: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that says another seed or noise than it was counted with."""
    rewrite(store, "fixed", **other)
    assert main([*audit(store, "fixed"), "--share", "1", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert len(found["wrong"]) >= 5
    assert found["wrong_at_most"] == len(found["wrong"])


def test_many_differences_are_told_shortly(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(store, "fixed", noise=cc.Laplace(6, 3.0))
    import cert_models.commands.audit as command

    assert main([*audit(store, "fixed"), "--share", "1", "--json"]) == 1
    wrong = len(json.loads(capsys.readouterr().out)["wrong"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "SHOWN", 4)
        assert main([*audit(store, "fixed"), "--share", "1"]) == 1
    text = capsys.readouterr().out
    assert text.count("votes differ: WRONG") == 4
    assert f"and {wrong - 4} more inputs" in text


@pytest.mark.parametrize("run", ["fixed", "early"])
def test_an_interrupted_audit_leaves_the_store_alone(
    store: str, run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def three(items: Iterator[Votes], *_: Any) -> Iterator[Votes]:
        yield from islice(items, 3)
        raise KeyboardInterrupt

    monkeypatch.setattr("cert_models.commands.audit._shown", three)
    before = Path(store).read_bytes()
    assert main([*audit(store, run), "--share", "1"]) == 130
    assert not capsys.readouterr().out
    assert Path(store).read_bytes() == before
    assert [p.name for p in Path(store).parent.iterdir()] == ["s.db"]


def test_seeds_of_the_system_differ(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = set()
    for _ in range(3):
        assert main([*audit(store, "fixed"), "--max", "1", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["drawn"] == draw_inputs(range(INPUTS), 1, found["seed"])
        seeds.add(found["seed"])
    assert len(seeds) > 1  # chance of one in 2^64


def test_progress_is_shown(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = audit(store, "fixed")
    command.remove("--quiet")
    assert main([*command, "--share", "1"]) == 0
    assert f"{INPUTS}/{INPUTS}" in capsys.readouterr().err


def test_a_run_of_the_digits_is_audited_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twelve digits, the nearest mean; then with one vote moved."""
    (tmp_path / "nearest.py").write_text(
        "import numpy as np\nfrom sklearn.datasets import load_digits\n"
        "x, y = load_digits(return_X_y=True)\n"
        "means = np.stack([x[y == i].mean(axis=0) / 16 for i in range(10)])\n"
        "def predict(batch):\n"
        "    rows = batch.reshape(len(batch), -1)\n"
        "    return ((rows[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    source = ["--store", "digits.db", "--data", "digits", "--model", "nearest:predict", "--quiet"]
    assert main([
        "certify", *source, "--noise", "gaussian", "--sigma", "0.5", "--attack", "l2", "--max",
        "12", "--n", "200",
    ]) == 0  # fmt: skip
    command = ["audit", *source, "--share", "1"]
    assert main(command) == 0
    assert "12 inputs of the data's " in capsys.readouterr().out
    rewrite("digits.db", "default", in_estimation(stored("digits.db", "default")[5]))
    assert main(command) == 1
    assert "input 5: 1 votes differ: WRONG" in capsys.readouterr().out


def test_the_data_may_lie_elsewhere(store: str, tmp_path: Path) -> None:
    moved_data = tmp_path / "elsewhere.npz"
    moved_data.write_bytes(Path("data.npz").read_bytes())
    assert main(audit(store, "net", data=str(moved_data))) == 0


def sampled(drawn: Sequence[int]) -> Iterator[Votes]:
    raise AssertionError("nothing is to be counted")
    yield


@pytest.mark.parametrize(
    ("how", "word"),
    [({"share": 0}, "share"), ({"confidence": 1}, "confidence"), ({"allow": -1}, "allow"),
     ({"most": 0}, "max"), ({"seed": -1}, "seed")],
)  # fmt: skip
def test_what_is_refused_is_so_before_anything_is_counted(
    tmp_path: Path, how: dict[str, Any], word: str
) -> None:
    audited(tmp_path / "s.db", path_of)
    with (
        CountStore(tmp_path / "s.db", readonly=True) as opened,
        pytest.raises(ValueError, match=word),
    ):
        audit_run(opened, "a", np.zeros(12), sampled, **({"seed": 0} | how))
