import argparse

from experiments.benchmarks import coverage


def test_shares_are_of_the_intervals_that_there_are() -> None:
    parser = argparse.ArgumentParser()
    coverage.add_options(parser)
    lines = list(coverage.run(parser.parse_args(["--rounds", "20", "--resamples", "60"])))
    rows = [line.split()[-3:] for line in lines if line.startswith(("FF++", "Celeb-DF"))]
    assert len(rows) == 6
    assert all(0.7 <= float(ours) <= 1 for ours, _, _ in rows)
    # Where all fakes hang together one group has them all, and there is no interval to be wrong.
    assert [row[2] == "nan" for row in rows] == [False] * 3 + [True] * 3
