"""Files of examples: formats, labels, malformed lines, and what the errors say."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from mxrec.cli.criteo import CATEGORIES, INTEGERS
from mxrec.cli.criteo_reader import CriteoReader
from mxrec.cli.csv_reader import CsvReader
from mxrec.cli.examples import Examples
from mxrec.cli.hashing import hash_bytes
from mxrec.cli.lines import DataError
from mxrec.cli.sources import FileSource, SyntheticSource, source_from_json


def criteo_line(label: str = "1", integer: str = "7", category: str = "68fd1e64") -> str:
    return "\t".join([label, *[integer] * INTEGERS, *[category] * CATEGORIES])


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def read_all(reader: CriteoReader | CsvReader) -> Examples:
    return Examples.concatenate(list(reader.read()))


class TestCriteo:
    def test_fields(self, tmp_path: Path) -> None:
        lines = [criteo_line(), criteo_line("0", "-2", ""), criteo_line("1", "", "0000abcd")]
        rows = read_all(CriteoReader(write(tmp_path / "a.tsv", lines)))
        assert rows.labels.tolist() == [1.0, 0.0, 1.0]
        assert rows.numeric[:2, 0].tolist() == [7.0, -2.0]
        assert np.isnan(rows.numeric[2]).all()
        expected = hash_bytes(np.array([b"68fd1e64", b"", b"0000abcd"]))
        np.testing.assert_array_equal(rows.keys, np.repeat(expected[:, None], CATEGORIES, axis=1))

    def test_gzip_is_recognised_by_content(self, tmp_path: Path) -> None:
        path = tmp_path / "no-suffix"
        path.write_bytes(gzip.compress((criteo_line() + "\r\n").encode() * 3))
        assert len(read_all(CriteoReader(path))) == 3

    def test_malformed_lines_are_skipped_and_reported(self, tmp_path: Path) -> None:
        lines = [criteo_line()] * 1000
        lines[10] = "1\t2"
        lines[20] = criteo_line(label="2")
        lines[30] = criteo_line(integer="1.5")
        lines[40] = criteo_line(category="x" * 2000)
        lines[50] = criteo_line(integer="9" * 40)
        lines[60] = ""
        reader = CriteoReader(write(tmp_path / "a.tsv", lines))
        assert len(read_all(reader)) == 994
        tally = reader.tally()
        assert tally.malformed == 6
        assert [line for line, _ in tally.first] == [11, 21, 31, 41, 51]
        summary = tally.summary()
        assert summary is not None
        assert "skipping 6 malformed lines of 1,000" in summary
        assert (
            "line 11: 2 fields instead of 40; line 21: the label is '2', not 0 or 1; "
            "line 31: I1 is '1.5'" in summary
        )

    def test_exactly_one_percent_passes_and_more_stops(self, tmp_path: Path) -> None:
        lines = [criteo_line()] * 99 + ["bad"]
        reader = CriteoReader(write(tmp_path / "a.tsv", lines))
        assert (reader.tally().lines, len(read_all(reader))) == (100, 99)
        with pytest.raises(
            DataError,
            match=r"b\.tsv: 2 of 100 lines are malformed, more than 1%.*line 99: 1 fields",
        ):
            CriteoReader(write(tmp_path / "b.tsv", [*lines[1:99], "bad", "bad"])).tally()

    @pytest.mark.parametrize(
        ("lines", "bad"),
        [
            pytest.param(10_000, slice(9_990, None), id="at-the-end"),
            pytest.param(10_000, slice(0, 10), id="at-the-start"),
            pytest.param(200_000, slice(199_000, 199_700), id="many-in-one-chunk"),
        ],
    )
    def test_share_of_malformed_lines_is_of_the_whole_file(
        self, tmp_path: Path, lines: int, bad: slice
    ) -> None:
        rows = [criteo_line()] * lines
        count = len(rows[bad])
        rows[bad] = ["bad"] * count
        source = FileSource(write(tmp_path / "a.tsv", rows), None, 0.05)
        assert f"skipping {count} malformed lines of {lines:,}" in (source.malformed() or "")
        used = sum(len(chunk) for part in (source.train(), source.holdout()) for chunk in part)
        assert used == lines - count

    def test_too_many_malformed_lines_are_known_before_the_first_chunk(
        self, tmp_path: Path
    ) -> None:
        lines = [criteo_line()] * 9_899 + ["bad"] * 101
        with pytest.raises(
            DataError, match=r"a\.tsv: 101 of 10,000 lines are malformed.*line 9900: 1 fields"
        ):
            FileSource(write(tmp_path / "a.tsv", lines), None, 0.1)

    @pytest.mark.parametrize(
        ("bad", "holdout", "message"),
        [
            (slice(990, None), 0.01, r"all of the last 10 lines, to evaluate on, are malformed"),
            (slice(0, 10), 0.99, r"all of the first 10 lines, to train on, are malformed"),
        ],
    )
    def test_a_part_without_a_usable_line(
        self, tmp_path: Path, bad: slice, holdout: float, message: str
    ) -> None:
        lines = [criteo_line()] * 1000
        lines[bad] = ["bad"] * 10
        with pytest.raises(DataError, match=message):
            FileSource(write(tmp_path / "a.tsv", lines), None, holdout)

    def test_truncated_gzip_names_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "cut.gz"
        lines = [f"{criteo_line(integer=str(n))}\n" for n in range(2000)]
        path.write_bytes(gzip.compress("".join(lines).encode())[:-50])
        with pytest.raises(DataError, match=r"cut\.gz, after line \d+: cannot read"):
            read_all(CriteoReader(path))

    def test_empty_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"a\.tsv: the file is empty"):
            FileSource(write(tmp_path / "a.tsv", []), None, 0.1)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"none\.tsv: no such file"):
            FileSource(tmp_path / "none.tsv", None, 0.1)
        with pytest.raises(DataError, match="is a directory; --data names a Criteo TSV"):
            FileSource(tmp_path, None, 0.1)


class TestCsv:
    HEADER = "age,job,city,bought"

    def test_columns_and_labels(self, tmp_path: Path) -> None:
        lines = [
            self.HEADER,
            "30,clerk,Rome,yes",
            '41,"cook, head",Oslo,no',
            ",clerk,,yes",
            "",
            "1e3,x,Köln,no",
        ]
        reader = CsvReader(write(tmp_path / "a.csv", lines), "bought")
        assert reader.numeric_names == ("age",)
        assert reader.category_names == ("job", "city")
        assert reader.label_values == ("no", "yes")
        rows = read_all(reader)
        assert rows.labels.tolist() == [1.0, 0.0, 1.0, 0.0]
        np.testing.assert_array_equal(rows.numeric[:, 0], np.float32([30, 41, np.nan, 1000]))
        jobs = np.array([b"clerk", b"cook, head", b"clerk", b"x"])
        np.testing.assert_array_equal(rows.keys[:, 0], hash_bytes(jobs))
        assert rows.keys[3, 1] == hash_bytes(np.array(["Köln".encode()]))[0]

    @pytest.mark.parametrize(("low", "high"), [("0", "1"), ("<=50K", ">50K"), ("a", "b")])
    def test_greater_label_is_one(self, tmp_path: Path, low: str, high: str) -> None:
        path = write(tmp_path / "a.csv", ["c,y", f"x,{high}", f"x,{low}", f"x,{high}"])
        assert read_all(CsvReader(path, "y")).labels.tolist() == [1.0, 0.0, 1.0]

    def test_malformed_lines(self, tmp_path: Path) -> None:
        lines = [self.HEADER] + ["30,clerk,Rome,yes", "31,cook,Oslo,no"] * 300
        lines[5] = "30,clerk,Rome"
        lines[9] = "30,clerk,Rome,perhaps"
        lines[12] = "old,clerk,Rome,yes"
        reader = CsvReader(write(tmp_path / "a.csv", lines), "bought")
        assert len(read_all(reader)) == 597
        assert reader.tally().first == [
            (6, "3 fields instead of 4"),
            (10, "bought is 'perhaps', not 'no' or 'yes'"),
            (13, "age is 'old', not a number"),
        ]

    def test_timestamps(self, tmp_path: Path) -> None:
        lines = ["at,job,bought"] + ["100,clerk,yes", " 4294967295 ,cook,no"] * 300
        lines[4] = "1.5,clerk,yes"
        lines[7] = "4294967296,clerk,yes"
        lines[8] = ",clerk,yes"
        lines[11] = "9" * 500 + ",clerk,yes"
        path = write(tmp_path / "a.csv", lines)
        reader = CsvReader(path, "bought", "at")
        # It is no feature.
        assert reader.numeric_names == ()
        assert reader.category_names == ("job",)
        rows = read_all(reader)
        assert rows.timestamps is not None
        assert rows.timestamps.tolist() == [
            int(line.split(",")[0]) for n, line in enumerate(lines) if n not in (0, 4, 7, 8, 11)
        ]
        what = "not a whole number of seconds in [0, 2^32)"
        assert reader.tally().first == [
            (5, f"at is '1.5', {what}"),
            (8, f"at is '4294967296', {what}"),
            (9, f"at is '', {what}"),
            (12, f"at is '{'9' * 37}...', {what}"),
        ]
        assert CsvReader(path, "bought").numeric_names == ("at",)

    @pytest.mark.parametrize(
        ("label", "timestamp", "message"),
        [
            ("bought", "when", r"line 1: no column 'when' for --timestamp-column; the columns are"),
            ("bought", "bought", "--timestamp-column is 'bought', which is the column of --label"),
            (None, "age", "--timestamp-column is 'age', but Criteo's format has no timestamps"),
        ],
    )
    def test_bad_timestamp_columns(
        self, tmp_path: Path, label: str | None, timestamp: str, message: str
    ) -> None:
        path = write(tmp_path / "a.csv", [self.HEADER] + ["30,clerk,Rome,yes"] * 10)
        with pytest.raises(DataError, match=message):
            FileSource(path, label, 0.1, timestamp)

    def test_too_many_malformed_lines(self, tmp_path: Path) -> None:
        lines = [self.HEADER] + ["30,clerk,Rome,yes", "31,cook,Oslo,no"] * 50
        lines[5] = lines[6] = "oops"
        with pytest.raises(
            DataError, match=r"a\.csv: 2 of 100 lines are malformed, more than 1%. First: line 6"
        ):
            CsvReader(write(tmp_path / "a.csv", lines), "bought").tally()

    @pytest.mark.parametrize("at", [1, 5, 18_000, 19_999])
    def test_a_stray_quote_costs_its_own_line_only(self, tmp_path: Path, at: int) -> None:
        lines = [self.HEADER] + ["30,clerk,Rome,yes", "31,cook,Oslo,no"] * 10_000
        lines[at] = '30,"clerk,Rome,yes'
        reader = CsvReader(write(tmp_path / "a.csv", lines), "bought")
        tally = reader.tally()
        assert (tally.lines, tally.malformed) == (20_000, 1)
        assert tally.first == [(at + 1, "a quote is not closed")]
        assert len(read_all(reader)) == 19_999

    def test_two_stray_quotes_do_not_join_their_lines(self, tmp_path: Path) -> None:
        lines = [self.HEADER] + ["30,clerk,Rome,yes", "31,cook,Oslo,no"] * 200
        lines[100] = '30,"clerk,Rome,yes'
        lines[110] = '30,clerk,Rome,"yes'
        tally = CsvReader(write(tmp_path / "a.csv", lines), "bought").tally()
        assert (tally.lines, [number for number, _ in tally.first]) == (400, [101, 111])

    def test_quotes_that_are_closed(self, tmp_path: Path) -> None:
        jobs = ["cook, head", 'a "b"', '5" pipe', ""]
        fields = ['"cook, head"', '"a ""b"""', '5" pipe', '""']
        lines = ["age,job,bought", *(f"1,{field},{n % 2}" for n, field in enumerate(fields))]
        path = tmp_path / "a.csv"
        path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
        reader = CsvReader(path, "bought")
        assert reader.tally().malformed == 0
        expected = hash_bytes(np.array([job.encode() for job in jobs]))
        np.testing.assert_array_equal(read_all(reader).keys[:, 0], expected)

    def test_a_line_the_parser_refuses_is_one_malformed_line(self, tmp_path: Path) -> None:
        lines = [self.HEADER] + ["30,clerk,Rome,yes", "31,cook,Oslo,no"] * 200
        lines[7] = f"30,{'x' * 200_000},Rome,yes"
        lines[9] = "30,cl\rerk,Rome,yes"
        path = tmp_path / "a.csv"
        path.write_bytes("\n".join(lines).encode())
        tally = CsvReader(path, "bought").tally()
        assert tally.lines == 400
        assert [number for number, _ in tally.first] == [8, 10]

    def test_a_header_with_an_open_quote(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", ['a,"y', "1,0", "1,1"])
        with pytest.raises(DataError, match="line 1: the header is malformed: a quote is not"):
            CsvReader(path, "y")

    def test_bad_labels_together_among_the_first_records(self, tmp_path: Path) -> None:
        lines = [self.HEADER] + ["30,clerk,Rome,yes", "31,cook,Oslo,no"] * 15_000
        lines[1:151] = ["30,clerk,Rome,perhaps"] * 150
        tally = CsvReader(write(tmp_path / "a.csv", lines), "bought").tally()
        assert (tally.lines, tally.malformed) == (30_000, 150)

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ([], "the file is empty"),
            (["a,b", "1,2"], "line 1: no column 'y' for --label; the columns are a, b"),
            (["a,a,y", "1,2,0"], "line 1: column 'a' appears more than once"),
            (["a,y", "1,0", "1,1", "1,2"], "label 'y' has 3 distinct values"),
            (["a,y", "1,0", "1,0"], "label 'y' has 1 distinct values"),
            (["a,y"], "no line after the header has its 2 fields"),
        ],
    )
    def test_unusable_files(self, tmp_path: Path, lines: list[str], message: str) -> None:
        with pytest.raises(DataError, match=message):
            CsvReader(write(tmp_path / "a.csv", lines), "y").tally()

    def test_split_is_by_position(self, tmp_path: Path) -> None:
        lines = ["n,c,y"] + [f"{n},x,{n % 2}" for n in range(100)]
        source = FileSource(write(tmp_path / "a.csv", lines), "y", 0.2)
        assert Examples.concatenate(list(source.train())).numeric[-1, 0] == 79
        assert Examples.concatenate(list(source.holdout())).numeric[:, 0].tolist() == list(
            range(80, 100)
        )
        again = source_from_json(source.to_json())
        assert (again.train_rows, again.holdout_rows) == (80, 20)


def test_written_tsv_reads_as_generated(tmp_path: Path) -> None:
    source = SyntheticSource(3000, 5, 0.25)
    source.write_tsv(tmp_path / "a.tsv")
    from_file = FileSource(tmp_path / "a.tsv", None, 0.25)
    for memory, disk in (
        (source.train(), from_file.train()),
        (source.holdout(), from_file.holdout()),
    ):
        expected = Examples.concatenate(list(memory))
        actual = Examples.concatenate(list(disk))
        np.testing.assert_array_equal(actual.labels, expected.labels)
        np.testing.assert_array_equal(actual.numeric, expected.numeric)
        np.testing.assert_array_equal(actual.keys, expected.keys)
