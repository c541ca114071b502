"""Stock TensorBoard must read a run's event files, and find the numbers of metrics.jsonl there, each step once, also
after the run was killed and went on.

    check_tensorboard.py SLUICE TEXT...
"""

import json
import pathlib
import subprocess
import sys
import time
import tempfile

from common import argument_parser, require, sluice, train_tiny

accumulator = require("tensorboard.backend.event_processing.event_accumulator")


def scalars_of(line):
    """tag -> value, as the event file names them."""
    scalars = {name: value for name, value in line.items() if name not in ("step", "layers")}
    for name, values in line["layers"].items():
        scalars |= {f"{name}/layer_{layer:02}": value for layer, value in enumerate(values)}
    return scalars


def read(run):
    """The lines of metrics.jsonl, and what TensorBoard reads."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    events = accumulator.EventAccumulator(str(run), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    return lines, events


def differing_scalars(lines, events):
    """How many scalars of all lines were compared, and how many are not there once with their value."""
    logged = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    compared = differences = 0
    for line in lines:
        for tag, value in scalars_of(line).items():
            values = [event.value for event in logged.get(tag, []) if event.step == line["step"]]
            same = len(values) == 1 and abs(values[0] - value) <= 1e-6 * abs(value)  # stored as float32
            compared, differences = compared + 1, differences + (not same)
            if not same:
                print(f"DIFFERENT: step {line['step']}: {tag}: {values} and {value}")
    return compared, differences


def train_killed(program, folder):
    """A run that is killed well after a checkpoint and goes on. Returns it and the last step before the kill."""
    run = folder / "killed"
    command = [program, "train", "--config", folder / "tiny.textproto", "--run", run, "--set", "logging.every=1",
               "--set", "checkpoint.every=50"]
    job = subprocess.Popen([*command, "--set", "training.steps=1000000"], stderr=subprocess.DEVNULL)
    steps = lambda: (run / "metrics.jsonl").read_text().count("\n") if (run / "metrics.jsonl").exists() else 0
    while job.poll() is None and not (steps() > 100 and 10 < steps() % 50 < 35):
        time.sleep(0.001)
    job.kill()
    job.wait()
    last = steps()
    sluice(*command, "--set", f"training.steps={last + 30}")
    return run, last


def main():
    options = argument_parser().parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        lines, events = read(train_tiny(options.sluice, options.text, folder))
        run, last = train_killed(options.sluice, folder)
        resumed = json.loads((run / "audit.jsonl").read_text().splitlines()[-1])
        killed_lines, killed_events = read(run)

    compared, differences = differing_scalars(lines, events)
    tags = events.Tags()
    print(f"TensorBoard reads {compared} scalars of {len(lines)} steps, {differences} differ; histograms "
          f"{tags['histograms']}, texts {tags['tensors']}")
    for name, values in lines[0]["layers"].items():
        histograms = events.Histograms(f"layers/{name}")
        differences += len(histograms) != len(lines) or histograms[0].histogram_value.num != len(values)
    differences += not any("config" in tag for tag in tags["tensors"]) or compared == 0

    compared, more = differing_scalars(killed_lines, killed_events)
    print(f"killed at step {last}, went on from {resumed['step']}: TensorBoard reads {compared} scalars of "
          f"{len(killed_lines)} steps, {more} differ")
    differences += more + (resumed["event"] != "resume" or not 0 < resumed["step"] < last)
    differences += [line["step"] for line in killed_lines] != list(range(1, last + 31))
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
