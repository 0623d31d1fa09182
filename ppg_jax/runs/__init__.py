"""A run on the host: its folder, checkpoints, progress display, loggers and results.

All input and output of a run happens here: training, resuming, and loading a saved run. Nothing
here depends on the command line or on sweeps.
"""

from ppg_jax.runs.benchmark import bench, bench_json
from ppg_jax.runs.checkpoints import one_line
from ppg_jax.runs.files import write_whole
from ppg_jax.runs.folder import METRICS, SWEEP, check_new, new_folder, write_figure, write_summary
from ppg_jax.runs.interrupts import StoppedError, StopRequest
from ppg_jax.runs.progress import Watch, make_display, print_table
from ppg_jax.runs.result import Result, RunSoFar
from ppg_jax.runs.resume import resume
from ppg_jax.runs.run import run
from ppg_jax.runs.saved_run import SavedRun, load_run, open_run
from ppg_jax.runs.session import laid_out, resolve

__all__ = [
    "METRICS",
    "SWEEP",
    "Result",
    "RunSoFar",
    "SavedRun",
    "StopRequest",
    "StoppedError",
    "Watch",
    "bench",
    "bench_json",
    "check_new",
    "laid_out",
    "load_run",
    "make_display",
    "new_folder",
    "one_line",
    "open_run",
    "print_table",
    "resolve",
    "resume",
    "run",
    "write_figure",
    "write_summary",
    "write_whole",
]
