"""A run with a processor that needs no network: started by the tests as a process of its own, to be killed."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

from monai_sam2unet.batch.batch_runner import BatchRunner
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.errors import DataError


class Case(bytes):
    """What was read; like arrays it says what memory it takes."""

    @property
    def nbytes(self) -> int:
        return len(self)


class FakeProcessor:
    """Hashes files, with pauses; a file that says "bad" is a bad series, and one that says "fault" a fault."""

    def __init__(self, read_s: float = 0.0, predict_s: float = 0.0, write_s: float = 0.0) -> None:
        self.read_s, self.predict_s, self.write_s = read_s, predict_s, write_s

    def read(self, job: SeriesJob) -> Case:
        time.sleep(self.read_s)
        content = b"".join(file.read_bytes() for file in job.files)
        if b"bad" in content:
            raise DataError(f"{job.files[0]} is bad.")
        return Case(content)

    def predict(self, cases: list[Case]) -> list[str]:
        time.sleep(self.predict_s * len(cases))
        if any(b"fault" in case for case in cases):
            raise ZeroDivisionError(f"of {b''.join(cases).decode()}")
        return [hashlib.sha256(case).hexdigest() for case in cases]

    def write(self, job: SeriesJob, result: str, folder: Path) -> None:
        (folder / "previews").mkdir()
        for name in ("mask.txt", "previews/first.txt", "previews/last.txt"):
            with (folder / name).open("w") as file:
                file.write(result[:32])
                file.flush()
                time.sleep(self.write_s / 3)
                file.write(result[32:])


def make_jobs(folder: Path, number: int, content: str = "series {}") -> list[SeriesJob]:
    """Series of one small file each."""
    folder.mkdir(exist_ok=True)
    jobs = []
    for i in range(number):
        file = folder / f"DOE_JANE_{i}.dcm"
        if not file.exists():
            file.write_text(content.format(i))
        uid = f"1.2.826.0.1.3680043.8.498.{i}"
        jobs.append(SeriesJob(uid, uid, "1.2.826.0.1.3680043.8.498", "CT", "", (file,), 10, file.stat().st_size))
    return jobs


def main() -> None:
    # A process that was started in the background ignores Ctrl-C, unless it says otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    source, output, number, *seconds = sys.argv[1:]
    jobs = make_jobs(Path(source), int(number))
    runner = BatchRunner(
        jobs,
        FakeProcessor(*map(float, seconds)),
        output,
        made_with={"threshold": 0.5},
        listener=lambda event: print(event.kind.value, flush=True),
    )
    try:
        code = runner.run().exit_code
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    os._exit(code) if code == 130 else sys.exit(code)


if __name__ == "__main__":
    main()
