"""What a worker keeps on disk until it is delivered: cut anywhere, changed anywhere, owned by one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tunewright.errors import StoreUnavailable
from tunewright.run.spool import Letters, Spool, key_of

WORDS = [b'{"a":1}', b"x" * 40, "gr\u00f6\u00dfe".encode()]


def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "home" / "key")


def written(tmp_path: Path, words: list[bytes] = WORDS) -> Path:
    """The file of a worker that is gone."""
    letters = spool(tmp_path).begin(3, 17)
    for word in words:
        letters.add(word)
    letters.close()
    return letters.path


def adopted(tmp_path: Path) -> list[bytes] | None:
    """What the next worker finds."""
    found = spool(tmp_path).orphans()
    if not found:
        return None
    (letters,) = found
    words = list(letters.pending)
    letters.close()
    return words


def test_words_are_found_by_the_next_worker(tmp_path: Path) -> None:
    path = written(tmp_path)
    found = spool(tmp_path).orphans()
    assert [(x.trial, x.token, list(x.pending)) for x in found] == [(3, 17, WORDS)]
    found[0].add(b"more")
    found[0].close()
    assert adopted(tmp_path) == [*WORDS, b"more"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


def test_acknowledged_words_are_not_said_again(tmp_path: Path) -> None:
    letters = spool(tmp_path).begin(3, 17)
    for word in WORDS:
        letters.add(word)
    letters.acknowledged()
    letters.acknowledged()
    letters.close()
    assert adopted(tmp_path) == WORDS[2:]
    (again,) = spool(tmp_path).orphans()
    again.acknowledged()
    again.close()
    assert adopted(tmp_path) == []
    (last,) = spool(tmp_path).orphans()
    last.remove()
    assert adopted(tmp_path) is None


def test_file_cut_at_any_byte_keeps_what_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    ends = [0]
    for word in WORDS:
        ends.append(ends[-1] + 8 + len(word))
    assert ends[-1] == len(data)
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = sum(end <= size for end in ends) - 1
        caplog.clear()
        assert adopted(tmp_path) == WORDS[:whole]
        assert path.stat().st_size == ends[whole], "the torn tail is cut off"
        assert ("ends in the middle" in caplog.text) == (size not in ends)


def test_changed_byte_is_never_taken_for_a_word(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x20
        path.write_bytes(changed)
        found = adopted(tmp_path)
        assert found is not None
        assert found == WORDS[: len(found)]
        assert len(found) < len(WORDS)


def test_file_of_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    mine = spool(tmp_path).begin(3, 17)
    mine.add(b"mine")
    code = (
        "import sys; from pathlib import Path; from tunewright.run.spool import Spool; "
        "print(len(Spool(Path(sys.argv[1])).orphans()))"
    )
    look = [sys.executable, "-c", code, str(mine.path.parent)]
    assert subprocess.run(look, capture_output=True, text=True, check=True).stdout == "0\n"
    mine.close()
    assert subprocess.run(look, capture_output=True, text=True, check=True).stdout == "1\n"


def test_only_files_of_ours_are_read(tmp_path: Path) -> None:
    folder = written(tmp_path).parent
    (folder / "notes.txt").write_text("hello")
    (folder / "trial-x-1.spool").write_text("hello")
    (folder / "trial-1-1.spool").symlink_to(folder / "notes.txt")
    assert [x.trial for x in spool(tmp_path).orphans()] == [3]


def test_full_disk_loses_nothing_while_the_worker_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    letters = spool(tmp_path).begin(3, 17)
    letters.add(WORDS[0])
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 20:
            return write(fd, data[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    letters.add(WORDS[1])
    monkeypatch.undo()
    letters.add(WORDS[2])
    assert list(letters.pending) == WORDS
    assert "No space left" in caplog.text
    letters.close()
    assert adopted(tmp_path) == [WORDS[0], WORDS[2]], "half a word is taken back"


def test_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable, match="Start it in a folder"):
        Spool(tmp_path / "file" / "spool" / "key")


def test_spool_that_is_gone_keeps_words_in_memory(tmp_path: Path) -> None:
    place = spool(tmp_path)
    place.folder.rmdir()
    letters = place.begin(3, 17)
    letters.add(b"word")
    assert isinstance(letters, Letters)
    assert list(letters.pending) == [b"word"]
    letters.remove()


def test_studies_do_not_share_a_folder() -> None:
    keys = {
        key_of("http://a", 1, 1.5),
        key_of("http://a", 2, 1.5),
        key_of("http://b", 1, 1.5),
        key_of("http://a", 1, 2.5),
    }
    assert len(keys) == 4
