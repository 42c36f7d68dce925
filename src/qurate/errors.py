"""The exception tree: one line says what was expected, what came, where, and what to do.

Exit codes (contract): a `UserError` ends a command with 2, a `MachineError` with 1.

Errors are written once, with the options of the command line. `str(error)`, which a caller from Python sees, names the
arguments in their place (`in_arguments`); the command line prints `error.typed`.
"""

import json
import operator
import re
import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any


class Code(StrEnum):
    """Every error that qurate raises on purpose: its short name, its exit code, and its HTTP status where the service sends it.

    A member is the text that `--json` and problem+json print.
    """

    exit_code: int
    http_status: int | None

    def __new__(cls, text: str, exit_code: int = 2, http_status: int | None = None) -> "Code":
        member = str.__new__(cls, text)
        member._value_, member.exit_code, member.http_status = text, exit_code, http_status
        return member

    # HTTP: a request that is refused, or cannot be answered now
    CONFLICT = "conflict", 2, 409
    FORBIDDEN = "forbidden", 2, 403
    INVALID_FIELD = "invalid_field", 2, 400
    INVALID_JSON = "invalid_json", 2, 400
    NOT_FOUND = "not_found", 2, 404
    NOT_READY = "not_ready", 1, 503
    OVERLOADED = "overloaded", 1, 503
    RATE_LIMITED = "rate_limited", 1, 429
    STORAGE_FULL = "storage_full", 1, 507
    TOO_DEEP = "too_deep", 2, 400
    TOO_LARGE = "too_large", 2, 413
    UNAUTHORISED = "unauthorised", 2, 401
    # the machine failed
    BAD_ANSWER = "bad_answer", 1
    BAD_SCORES = "bad_scores", 1
    BENCH_FAILED = "bench_failed", 1
    CANNOT_WRITE = "cannot_write", 1
    DATA_DIR = "data_dir", 1
    DISK_FULL = "disk_full", 1
    INTERNAL = "internal", 1
    IO = "io", 1
    NOT_PERMITTED = "not_permitted", 1
    NO_ANSWER = "no_answer", 1
    NO_STDOUT = "no_stdout", 1
    OS_ERROR = "os_error", 1
    OUT_OF_MEMORY = "out_of_memory", 1
    PORT_TAKEN = "port_taken", 1
    UNREADABLE = "unreadable", 1
    UNWRITABLE = "unwritable", 1
    WRITE_FAILED = "write_failed", 1
    # the user's mistake
    ALTERED_CUSTOMERS = "altered_customers"
    ALTERED_DATASET = "altered_dataset"
    ALTERED_MODEL = "altered_model"
    BAD_ACTION = "bad_action"
    BAD_ACTIONS = "bad_actions"
    BAD_ARGUMENT = "bad_argument"
    BAD_AVAILABILITY = "bad_availability"
    BAD_COLUMN = "bad_column"
    BAD_COMPARE = "bad_compare"
    BAD_CUSTOMERS = "bad_customers"
    BAD_DURATION = "bad_duration"
    BAD_ENCODING = "bad_encoding"
    BAD_ENV = "bad_env"
    BAD_EPISODE = "bad_episode"
    BAD_EPSILON = "bad_epsilon"
    BAD_EVALUATE = "bad_evaluate"
    BAD_EXTENSION = "bad_extension"
    BAD_FEATURES = "bad_features"
    BAD_HISTORY = "bad_history"
    BAD_HOST = "bad_host"
    BAD_IDS = "bad_ids"
    BAD_CANDIDATE_FEATURES = "bad_candidate_features"
    BAD_K = "bad_k"
    BAD_KEY = "bad_key"
    BAD_LINE_ENDS = "bad_line_ends"
    BAD_LIST = "bad_list"
    BAD_MAP = "bad_map"
    BAD_MATRIX = "bad_matrix"
    BAD_MIXTURE = "bad_mixture"
    BAD_MODEL = "bad_model"
    BAD_NUMBER = "bad_number"
    BAD_OPTION = "bad_option"
    BAD_OPTIONS = "bad_options"
    BAD_OUTPUT = "bad_output"
    BAD_PAIR = "bad_pair"
    BAD_PATH = "bad_path"
    BAD_RESUME = "bad_resume"
    BAD_REWARD = "bad_reward"
    BAD_RULES = "bad_rules"
    BAD_SEED = "bad_seed"
    BAD_SETTING = "bad_setting"
    SETTING_OF_ANOTHER_ALGORITHM = "setting_of_another_algorithm"
    BAD_SHARE = "bad_share"
    BAD_SPLIT = "bad_split"
    BAD_STEPS = "bad_steps"
    BAD_STORE = "bad_store"
    BAD_SYSTEM = "bad_system"
    BAD_TEMPERATURE = "bad_temperature"
    BAD_THREADS = "bad_threads"
    BAD_TIME = "bad_time"
    BAD_TRAIN = "bad_train"
    BAD_URL = "bad_url"
    BAD_VALUE = "bad_value"
    BAD_VOCABULARY = "bad_vocabulary"
    BAD_WEIGHTS = "bad_weights"
    CHECK_FAILED = "check_failed"
    CONSTANT_SOLUTION = "constant_solution"
    DIVERGED = "diverged"
    DUPLICATE_ID = "duplicate_id"
    DUPLICATE_NAME = "duplicate_name"
    EMPTY_CATALOGUE = "empty_catalogue"
    EMPTY_DIRECTORY = "empty_directory"
    EMPTY_FILE = "empty_file"
    GOLDEN_MISMATCH = "golden_mismatch"
    ILLEGAL_ACTION = "illegal_action"
    LEAVE_WITHOUT_CHURN = "leave_without_churn"
    MISSING_COLUMN = "missing_column"
    MISSING_EXTRA = "missing_extra"
    MISSING_OPTION = "missing_option"
    MISSING_VALUE = "missing_value"
    MIXED_LAYOUTS = "mixed_layouts"
    NOT_A_DATASET = "not_a_dataset"
    NOT_A_MODEL = "not_a_model"
    NOT_CUSTOMERS = "not_customers"
    NO_CHECKPOINT = "no_checkpoint"
    NO_DATASET = "no_dataset"
    NO_DECISIONS = "no_decisions"
    NO_DEVICE = "no_device"
    NO_EVENTS = "no_events"
    NO_HEADER = "no_header"
    NO_ITEM_FEATURES = "no_item_features"
    NO_MARKS = "no_marks"
    NO_RESPONSE_ORGANIC = "no_response_organic"
    NO_REWARD = "no_reward"
    NO_SPLIT_COLUMN = "no_split_column"
    NO_SUCH_FILE = "no_such_file"
    NO_TARGETS = "no_targets"
    NO_TRAIN_SPLIT = "no_train_split"
    ONE_ITEM = "one_item"
    OTHER_DATASET = "other_dataset"
    OTHER_ENVIRONMENT = "other_environment"
    OTHER_FORMAT = "other_format"
    RAGGED_ROW = "ragged_row"
    MISSING_ID = "missing_id"
    SCHEMA_VERSION = "schema_version"
    TOO_FEW_ROWS = "too_few_rows"
    TOO_MANY_BAD_ROWS = "too_many_bad_rows"
    TOO_MANY_TYPES = "too_many_types"
    UNKNOWN_ALGORITHM = "unknown_algorithm"
    UNKNOWN_BENCHMARK = "unknown_benchmark"
    UNKNOWN_COLUMN = "unknown_column"
    UNKNOWN_COLUMNS = "unknown_columns"
    UNKNOWN_COMMAND = "unknown_command"
    UNKNOWN_COMPONENT = "unknown_component"
    UNKNOWN_DEVICE = "unknown_device"
    UNKNOWN_ENVIRONMENT = "unknown_environment"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    UNKNOWN_FEATURE = "unknown_feature"
    UNKNOWN_LAYOUT = "unknown_layout"
    UNKNOWN_OPTION = "unknown_option"
    UNKNOWN_POLICY = "unknown_policy"
    UNKNOWN_SETTING = "unknown_setting"
    UNKNOWN_SPLIT = "unknown_split"
    UNKNOWN_TYPE = "unknown_type"
    UNREADABLE_FILE = "unreadable_file"
    WOULD_OVERWRITE = "would_overwrite"


ARGUMENTS = {
    **{name: name.replace("-", "_") for name in (
        "map", "type", "items", "users", "decisions", "layout", "max-bad", "value", "header", "columns", "encoding", "time-form", "order",
        "episode", "churn-after", "rewards", "env", "algorithm", "seed", "steps", "budget", "resume", "seeds", "customers", "visits",
        "exclude", "candidates", "threads", "device",
    )},
    "sep": "separator", "from": "start", "no-histories": "histories=False", "keep-diverged": "keep_diverged=True",
    "keep-duplicates": "keep_duplicates=True", "force": "force=True",
}  # fmt: skip
"""Option of the command line -> argument in Python, where there is one."""
_ONE_MAP = r"--map [^\s,;=]+=(?:'[^']*'|[^\s,;]+)"
_MAPS = re.compile(rf"{_ONE_MAP}(?: {_ONE_MAP})*")
_SETTING = re.compile(r"--set ([a-z]\w*)")
_VALUE = re.compile(
    r"\b(say|give|or|with|as) --(encoding|sep|time-form|type|order|value|columns|device) (?!with\b|for\b|or\b|and\b|out\b)"
    r"(\"[^\"]*\"|'[^']*'|[^\s;)]*[^\s;),:])"
)
_OPTION = re.compile(r"(?<![\w-])--(" + "|".join(sorted(ARGUMENTS, key=len, reverse=True)) + r"|set)\b(?!-)")


def in_arguments(line: str) -> str:
    """A line that names options of the command line, with the arguments of Python in their place.

    >>> in_arguments("say --encoding gbk, or --map user_id=who")
    'say encoding="gbk", or map={"user_id": "who"}'
    >>> in_arguments("name it: --map user_id=who --map item_id='product name'")
    'name it: map={"user_id": "who", "item_id": "product name"}'
    """

    def mapped(match: re.Match[str]) -> str:
        pairs = [part.partition("=") for part in shlex.split(match[0]) if part != "--map"]
        return f"map={_written({name: column for name, _, column in pairs})}"

    def valued(match: re.Match[str]) -> str:
        said, option, value = match[1], match[2], match[3].strip("\"'")
        file, equals, name = value.rpartition("=")
        of_file = {file: name} if option == "type" and equals else value
        return f"{said} {ARGUMENTS[option]}={_written(value.split(',') if option == 'columns' else of_file)}"

    line = _VALUE.sub(valued, _SETTING.sub(r"\1", _MAPS.sub(mapped, line)))
    return _OPTION.sub(lambda match: ARGUMENTS.get(match[1], "settings"), line)


def _written(value: str | list[str] | dict[str, str]) -> str:
    return json.dumps(value, ensure_ascii=False)


class QurateError(Exception):
    """Base of all errors qurate raises on purpose.

    Args:
        expected: what should have been there.
        got: what was there.
        where: file, row, field or option.
        hint: what the reader can do about it.
        code: its short name, exit code and HTTP status.

    Attributes: all of these, and `typed`, the line with the options of the command line. `str(error)` names arguments of Python.

    >>> try:
    ...     qurate.train(log, algorithm="dqnn")
    ... except qurate.QurateError as error:
    ...     print(error)
    expected a known algorithm, got dqnn, at algorithm; did you mean dqn?
    """

    def __init__(self, expected: str, got: str, *, code: Code, where: str = "", hint: str = "") -> None:
        self.expected, self.got, self.where, self.hint, self.code = expected, got, where, hint, code
        line = f"internal error: {got}" if code is Code.INTERNAL else f"expected {expected}, got {got}"
        line += f", at {where}" if where else ""
        line += f"; {hint}" if hint else ""
        self.typed = " ".join(line.split())
        super().__init__(in_arguments(self.typed))

    @property
    def exit_code(self) -> int:
        """What a command ends with."""
        return self.code.exit_code

    def to_dict(self) -> dict[str, str]:
        """The `error` object of `--json`: {"code", "message", "where", "hint"}."""
        return {"code": self.code, "message": self.typed, "where": self.where, "hint": self.hint}


class UserError(QurateError):
    """The user's mistake: exit code 2.

    >>> try:
    ...     qurate.read_events("no-such-file.csv")
    ... except qurate.UserError as error:
    ...     print(error.exit_code, error)
    2 expected an existing file or directory, got nothing, at no-such-file.csv; check the path
    """


class MachineError(QurateError):
    """The machine failed (disk full, unreadable file, port taken): exit code 1.

    >>> issubclass(qurate.MachineError, qurate.QurateError), issubclass(qurate.MachineError, qurate.UserError)
    (True, False)
    """


NAMED, COMPARED = 40, 20_000
"""A hint lists so many names, and compares with so many: a catalogue has more of them than a line or a second."""


def whole_number(value: Any, name: str, low: int, code: Code, high: int = 2**63 - 1) -> int:
    """`value` as an int of Python's own; numpy's are taken too.

    Raises:
        UserError: it is no whole number from `low` to `high`.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        limits = f"from {low} to {high:,}" if number is not None and number > high else f"of at least {low}"
        raise UserError(f"a whole number {limits}", f"{value!r:.60}", where=name, code=code)
    return number


def nearest(name: str, known: Iterable[str], named: int = NAMED) -> str:
    """A hint that names the nearest known name, or the first so many of them when none is near; `name` may be anything that was given."""
    name, names = str(name), sorted(known)
    close = get_close_matches(name, names[:COMPARED], n=1, cutoff=0.5)
    if not close:  # perhaps in capitals
        small = {one.lower(): one for one in names[:COMPARED]}
        close = [small[one] for one in get_close_matches(name.lower(), small, n=1, cutoff=0.5)]
    more = f" and {len(names) - named:,} more" if len(names) > named else ""
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names[:named])}{more}"


def innermost(error: BaseException) -> str:
    """File and line in which an exception was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
