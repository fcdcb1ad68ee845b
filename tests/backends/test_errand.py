"""A job in a process of its own: what comes back, whatever becomes of that process."""

from __future__ import annotations

import pytest

from shipworthy.backends import errand
from shipworthy.errors import Failed, Refused

CHILD = """
import os, signal, sys, time
from shipworthy.backends import errand
from shipworthy.errors import Failed, Refused

def do(job, folder):
    {}

errand.fulfil(do, "Frame")
"""


@pytest.fixture
def send(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "folder"
    folder.mkdir()

    def make(code, **environment):
        (tmp_path / "errand_child.py").write_text(CHILD.format(code))
        return errand.send(errand.Errand("errand_child", "Frame", environment), folder, {"deed": "fold", "path": "m.x"})

    return make


def test_the_answer_comes_back(send, tmp_path):
    assert send("return {'place': str(folder), 'deed': job['deed'], 'told': os.environ['TOLD']}", TOLD="so") == {
        "place": str(tmp_path / "folder"),
        "deed": "fold",
        "told": "so",
    }


@pytest.mark.parametrize("kind", [Refused, Failed])
def test_our_own_errors_come_back_whole(send, kind):
    with pytest.raises(kind) as caught:
        send(f"raise {kind.__name__}('a', found='b', expected='c', next='d')")
    assert type(caught.value) is kind
    assert caught.value.as_dict() == {"error": "a", "found": "b", "expected": "c", "next": "d"}


def test_other_errors_are_told_by_their_first_line(send):
    with pytest.raises(Refused) as caught:
        send("raise KeyError('one\\\\ntwo')")
    assert caught.value.as_dict()["error"] == "Frame could not fold m.x"
    with pytest.raises(Refused) as caught:
        send("raise ValueError('one\\ntwo')")
    assert caught.value.found == "ValueError: one"


def test_a_death_is_told_with_the_last_words(send):
    with pytest.raises(Failed, match=r"the process of Frame died over m\.x") as caught:
        send("os.write(2, b'oh no'); os._exit(3)")
    assert caught.value.found == "exit code 3; its last words: oh no"
    with pytest.raises(Failed) as caught:
        send("os.kill(os.getpid(), signal.SIGSEGV)")
    assert caught.value.found == "signal 11; its last words: none"


def test_it_may_not_take_forever(send, monkeypatch):
    monkeypatch.setattr(errand, "LIMIT_SECONDS", 1.0)
    with pytest.raises(Failed, match=r"Frame took too long over m\.x"):
        send("time.sleep(60)")
