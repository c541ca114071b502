"""Stock TensorBoard must read a run's event file, and find the numbers of metrics.jsonl there.

    check_tensorboard.py SLUICE TEXT...
"""

import json
import pathlib
import sys
import tempfile

from common import argument_parser, require, sluice, train_tiny

accumulator = require("tensorboard.backend.event_processing.event_accumulator")


def scalars_of(line):
    """tag -> value, as the event file names them."""
    scalars = {name: value for name, value in line.items() if name not in ("step", "layers")}
    for name, values in line["layers"].items():
        scalars |= {f"{name}/layer_{layer:02}": value for layer, value in enumerate(values)}
    return scalars


def main():
    options = argument_parser().parse_args()

    with tempfile.TemporaryDirectory() as name:
        run = train_tiny(options.sluice, options.text, pathlib.Path(name))
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        events = accumulator.EventAccumulator(str(run), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
        events.Reload()

    compared = differences = 0
    for line in lines:
        for tag, value in scalars_of(line).items():
            logged = [event.value for event in events.Scalars(tag) if event.step == line["step"]]
            same = len(logged) == 1 and abs(logged[0] - value) <= 1e-6 * abs(value)  # stored as float32
            compared, differences = compared + 1, differences + (not same)
            if not same:
                print(f"DIFFERENT: step {line['step']}: {tag}: {logged} and {value}")
    tags = events.Tags()
    print(f"TensorBoard reads {compared} scalars of {len(lines)} steps, {differences} differ; histograms "
          f"{tags['histograms']}, texts {tags['tensors']}")
    for name, values in lines[0]["layers"].items():
        histograms = events.Histograms(f"layers/{name}")
        differences += len(histograms) != len(lines) or histograms[0].histogram_value.num != len(values)
    differences += not any("config" in tag for tag in tags["tensors"]) or compared == 0
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
