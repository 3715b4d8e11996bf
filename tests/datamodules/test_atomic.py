from pathlib import Path

from datamodules.atomic import atomic_open


def test_two_writers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    # Of one process here; on two machines two processes may have one id as well.
    path = tmp_path / "a.txt"
    with atomic_open(path) as first:
        first.write(b"first, and longer")
        with atomic_open(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first, and longer"
    assert list(tmp_path.iterdir()) == [path]
