"""pyarrow's S3FileSystem, which speaks through the AWS SDK for C++."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

CLIENT = "pyarrow"
SCRIPT = """
import os
import pyarrow as pa, pyarrow.dataset as ds, pyarrow.fs as fs, pyarrow.parquet as pq

s3 = fs.S3FileSystem(
    endpoint_override=os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"), scheme="http", allow_bucket_creation=True,
    allow_bucket_deletion=True)
s3.create_dir("arrow")
table = pa.table({"n": range(200_000), "part": [n % 3 for n in range(200_000)]})
pq.write_table(table, "arrow/one.parquet", filesystem=s3)
assert pq.read_table("arrow/one.parquet", filesystem=s3).equals(table)
ds.write_dataset(table, "arrow/parts", filesystem=s3, format="parquet", partitioning=["part"])
read = ds.dataset("arrow/parts", filesystem=s3, format="parquet", partitioning=["part"])
assert read.count_rows(filter=ds.field("part") == 2) == 66666
names = sorted(info.path for info in s3.get_file_info(fs.FileSelector("arrow", recursive=True)))
assert "arrow/parts/1" in names and "arrow/one.parquet" in names, names
large = os.urandom(25 << 20)
with s3.open_output_stream("arrow/ä large") as out:
    out.write(large)
with s3.open_input_file("arrow/ä large") as file:
    assert file.size() == len(large) and file.read_at(1000, 12345) == large[12345:13345]
s3.copy_file("arrow/ä large", "arrow/copy")
s3.move("arrow/copy", "arrow/moved")
assert s3.get_file_info("arrow/copy").type == fs.FileType.NotFound
assert s3.get_file_info("arrow/moved").size == len(large)
s3.delete_file("arrow/moved")
s3.delete_dir("arrow")
print(pa.__version__)
"""


def test_tables_and_files_are_written_read_listed_and_deleted(foreign: Client) -> None:
    """Parquet, a partitioned data set, parts, ranges, copies and folders."""
    assert foreign.script(SCRIPT).split() == ["26.0.1"]
