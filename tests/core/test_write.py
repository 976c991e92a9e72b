"""Files that are written whole or not at all, whatever stands in their place."""

import os
import shutil
import socket
import stat
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

import structmat
from structmat.cli import main
from structmat.errors import InputError, SaveError
from structmat.files.write import whole_file

posix = pytest.mark.skipif(os.name != "posix", reason="links, modes and devices of POSIX")


def write(path, text="new"):
    with whole_file(path) as beside:
        beside.write_text(text)


@posix
def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    file, link, chain = (tmp_path / name for name in ("there/file", "link", "chain"))
    file.write_text("old")
    link.symlink_to("there/file")
    chain.symlink_to("link")
    write(chain)
    assert chain.is_symlink()
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["file"]


@posix
def test_a_link_to_nothing_is_followed(tmp_path):
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_permissions_stay(mode, tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(mode)
    write(tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


@posix
def test_a_file_that_ran_as_its_owner_does_so_no_more(tmp_path):
    """The new one may have another owner."""
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o6755)
    write(tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755


@posix
def test_no_other_thread_meets_another_umask(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda _mask: pytest.fail("umask was set for all threads"))
    write(tmp_path / "a")


@posix
@pytest.mark.parametrize("what", ["pipe", "socket", "folder", "link to a pipe"])
def test_what_is_no_regular_file_is_refused(what, tmp_path):
    path = place = tmp_path / "a"
    if what == "socket":
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(path))
    elif what == "folder":
        path.mkdir()
    else:
        place = tmp_path / "pipe" if "link" in what else path
        os.mkfifo(place)
        if place != path:
            path.symlink_to(place)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(SaveError, match=r"no regular file.* choose another name"):
        write(path)
    assert not stat.S_ISREG(os.stat(place).st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["a" * 250, "ä" * 120, ".", "a b\nc", "-"])
def test_odd_names(name, tmp_path):
    if name == ".":
        with pytest.raises(SaveError):
            write(tmp_path / name)
        return
    write(tmp_path / name)
    assert (tmp_path / name).read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "a" * 130 + "\ud800"])
def test_characters_that_no_name_has_are_refused(name, tmp_path):
    if os.name == "nt" and "\0" not in name:
        pytest.skip("NTFS takes any 16-bit unit in a name")
    with pytest.raises(SaveError, match=r"cannot write .* choose a name of other characters"):
        write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("name", ["a" * 300, "ä" * 128])
def test_a_name_that_is_too_long_asks_for_a_shorter_one(name, tmp_path):
    with pytest.raises(SaveError, match=r"too long.*; choose a shorter name"):
        write(tmp_path / name)


@posix
def test_links_in_a_circle_are_refused(tmp_path):
    for one, other in ("ab", "ba"):
        (tmp_path / one).symlink_to(other)
    with pytest.raises(SaveError, match="choose another name, or mend the links"):
        write(tmp_path / "a")


class Named:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


@pytest.mark.parametrize("kind", [str, Path, os.fsencode, Named, lambda p: Named(os.fsencode(p))])
def test_every_function_takes_a_path_of_every_sort(kind, tmp_path):
    path = kind(str(tmp_path / "a"))
    structmat.save(path, structmat.Dense(np.eye(3)))
    assert structmat.load(path).shape == (3, 3)
    torch = pytest.importorskip("torch")
    from structmat.nn import load_model, save_model

    save_model(path, torch.nn.Linear(2, 2))
    assert load_model(path, torch.nn.Linear(2, 2))
    write(path)
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("path", [3, None, ["a"], True, 0.5])
def test_what_is_no_path_is_refused(path):
    """A number would be the handle of an open file."""
    calls = [lambda: structmat.save(path, structmat.Dense(np.eye(3))), lambda: structmat.load(path)]
    if pytest.importorskip("torch"):
        from torch import nn

        from structmat.nn import load_model, save_model

        calls += [lambda: save_model(path, nn.Linear(2, 2)), lambda: load_model(path, nn.Module())]
    for call in calls:
        with pytest.raises(InputError, match=r"path is a \w+; expected a str, bytes"):
            call()


def left_behind(folder, name, monkeypatch):
    """The file that a killed process leaves."""
    with monkeypatch.context() as patch:
        patch.setattr(type(folder), "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt), whole_file(folder / name):
            raise KeyboardInterrupt
    (found,) = (p for p in folder.iterdir() if p.name.startswith(f".{name}."))
    return found


def test_what_killed_processes_left_is_removed_when_it_is_old(tmp_path, monkeypatch):
    other = left_behind(tmp_path, "b", monkeypatch)
    for age, gone in ((0, False), (3500, False), (3700, True)):
        left = left_behind(tmp_path, "a", monkeypatch)
        for path in (left, other):
            os.utime(path, (path.stat().st_mtime - age,) * 2)
        write(tmp_path / "a")
        assert left.exists() != gone
        assert other.exists(), "that of another file"
        left.unlink(missing_ok=True)


def refused_model(path):
    from torch import nn

    from structmat.nn import save_model

    def save():
        with pytest.raises(SaveError, match=r"room enough|make room"):
            save_model(path, nn.Linear(99, 99))

    return save


@posix
def test_a_full_disk_leaves_the_old_file(tmp_path, capsys):
    """As the limit of a file's size: a save reaches it in the middle."""
    resource = pytest.importorskip("resource")
    import signal

    path, large, old = tmp_path / "a.npz", tmp_path / "large.npy", structmat.Dense(np.eye(3))
    structmat.save(path, old)
    np.save(large, np.random.default_rng(0).standard_normal((99, 99)))
    save_large = pytest.importorskip("torch") and refused_model(path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    known = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(SaveError, match=r"too large.* make room"):
            structmat.save(path, structmat.Dense(np.ones((99, 99))))
        save_large()
        full = main(["compress", str(large), "--budget", "1", "--to", "low_rank", "-o", str(path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, known)
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path, large]
    assert full == 1
    assert "make room" in capsys.readouterr().err


def test_a_target_that_vanishes_is_written_all_the_same(tmp_path):
    (tmp_path / "a").write_text("old")
    with whole_file(tmp_path / "a") as beside:
        beside.write_text("new")
        (tmp_path / "a").unlink()
    assert (tmp_path / "a").read_text() == "new"


def test_a_folder_that_vanishes_is_an_error(tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()

    def vanish():
        with whole_file(folder / "a") as beside:
            beside.write_text("new")
            shutil.rmtree(folder)

    with pytest.raises(SaveError, match="choose a folder"):
        vanish()


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only the superuser becomes another user"
)
def test_another_users_folder_is_refused():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / "a.npz"
        structmat.save(path, structmat.Dense(np.eye(3)))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgid(65534)
                os.setuid(65534)
                structmat.save(path, structmat.Dense(np.eye(2)))
            except SaveError as error:
                status = 0 if "choose a folder" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert structmat.load(path).shape == (3, 3)
        assert list(folder.iterdir()) == [path]


def test_many_threads_write_one_file(tmp_path):
    path = tmp_path / "a.npz"
    matrices = [structmat.Dense(np.full((20, 20), float(i))) for i in range(4)]

    def save(i):
        for _ in range(10):
            structmat.save(path, matrices[i])

    threads = [threading.Thread(target=save, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert structmat.load(path).to_dense()[0, 0] in range(4)
    assert list(tmp_path.iterdir()) == [path]
