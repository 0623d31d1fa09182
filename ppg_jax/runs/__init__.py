"""A run on the host: its folder, checkpoints, progress display, loggers and results.

All input and output of a run happens here: training, resuming, and loading what was saved, also
from the folder of a sweep. Nothing here trains a sweep or depends on the command line.
"""

from ppg_jax.runs.benchmark import bench, bench_json
from ppg_jax.runs.checkpoints import Checkpoints, load_parameters, one_line, save_parameters
from ppg_jax.runs.evaluator import EVALUATION, EvaluationOptions, read_rows
from ppg_jax.runs.files import TextLog, write_whole
from ppg_jax.runs.folder import (
    METRICS,
    SWEEP,
    check_new,
    folder_lock,
    new_folder,
    write_figure,
    write_summary,
)
from ppg_jax.runs.interrupts import StoppedError, StopRequest
from ppg_jax.runs.loading import SavedSetting, load_run, open_run, open_runs
from ppg_jax.runs.loggers import (
    FIRST_COLUMNS,
    Logger,
    MetricsFileError,
    check_logger,
    make_logger,
)
from ppg_jax.runs.options import RunOptions
from ppg_jax.runs.progress import Display, Watch, make_display, print_table
from ppg_jax.runs.recorder import CheckpointOptions, Recorder
from ppg_jax.runs.result import Result, RunSoFar
from ppg_jax.runs.resume import LAYOUT_FIELDS, StartingPoint, changed_config, resume, starting_point
from ppg_jax.runs.run import run
from ppg_jax.runs.saved_run import SavedRun
from ppg_jax.runs.session import (
    Session,
    laid_out,
    note_storage,
    resolve,
    seed_keys,
    train_until_stopped,
)
from ppg_jax.runs.stopping import StopOptions, Stopping
from ppg_jax.runs.sweep_folder import SavedGroup, saved_groups, write_group
from ppg_jax.runs.together import check_alone

__all__ = [
    "EVALUATION",
    "FIRST_COLUMNS",
    "LAYOUT_FIELDS",
    "METRICS",
    "SWEEP",
    "CheckpointOptions",
    "Checkpoints",
    "Display",
    "EvaluationOptions",
    "Logger",
    "MetricsFileError",
    "Recorder",
    "Result",
    "RunOptions",
    "RunSoFar",
    "SavedGroup",
    "SavedRun",
    "SavedSetting",
    "Session",
    "StartingPoint",
    "StopOptions",
    "StopRequest",
    "StoppedError",
    "Stopping",
    "TextLog",
    "Watch",
    "bench",
    "bench_json",
    "changed_config",
    "check_alone",
    "check_logger",
    "check_new",
    "folder_lock",
    "laid_out",
    "load_parameters",
    "load_run",
    "make_display",
    "make_logger",
    "new_folder",
    "note_storage",
    "one_line",
    "open_run",
    "open_runs",
    "print_table",
    "read_rows",
    "resolve",
    "resume",
    "run",
    "save_parameters",
    "saved_groups",
    "seed_keys",
    "starting_point",
    "train_until_stopped",
    "write_figure",
    "write_group",
    "write_summary",
    "write_whole",
]
